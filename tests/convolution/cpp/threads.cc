// Threads run, survive an exception in their work, and are there in a forked child, too.
#include "threads.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <set>
#include <stdexcept>

namespace {

// How many different threads run.
int run_threads() {
  std::mutex mutex;
  std::set<std::thread::id> threads;
  tiedexp::Threads::shared().run(4, [&](int) {
    std::lock_guard<std::mutex> lock(mutex);
    threads.insert(std::this_thread::get_id());
  });
  return static_cast<int>(threads.size());
}

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  std::printf("%d threads ran\n", run_threads());
  try {
    tiedexp::Threads::shared().run(4, [](int number) {
      if (number > 1) throw std::runtime_error("no memory");
    });
  } catch (const std::runtime_error& error) {
    std::printf("caught: %s\n", error.what());
  }
  std::printf("%d threads ran\n", run_threads());
  const pid_t child = fork();
  if (child == 0) {
    alarm(5);  // it would wait for threads that are not there
    std::printf("child: %d threads ran\n", run_threads());
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  std::printf("child ended with %d\n", status);
}
