// Threads that wait for work, so that none is started for every convolution.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tiedexp {

class Threads {
 public:
  // Those of the process. They are never joined: at its exit the system ends them.
  static Threads& shared() {
    static Threads* threads = new Threads;
    return *threads;
  }

  // Calls work(0) .. work(count - 1), each in a thread of its own; returns when all are done. The caller only waits:
  // TensorFlow calls now from this thread and now from that, and a system that finds two threads on one processor may
  // take longer to part them than a convolution lasts.
  void run(int count, const std::function<void(int)>& work) {
    if (count == 1) return work(0);
    std::lock_guard<std::mutex> one_caller(callers_);
    std::unique_lock<std::mutex> lock(mutex_);
    while (static_cast<int>(workers_.size()) < count) {
      const int number = static_cast<int>(workers_.size());
      workers_.emplace_back([this, number, seen = round_] { serve(number, seen); });
    }
    work_ = &work;
    count_ = running_ = count;
    ++round_;
    begin_.notify_all();
    end_.wait(lock, [this] { return running_ == 0; });
  }

 private:
  void serve(int number, long seen) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      begin_.wait(lock, [&] { return round_ != seen; });
      seen = round_;
      if (number >= count_) continue;
      const std::function<void(int)>& work = *work_;
      lock.unlock();
      work(number);
      lock.lock();
      if (--running_ == 0) end_.notify_one();
    }
  }

  std::mutex callers_, mutex_;
  std::condition_variable begin_, end_;
  std::vector<std::thread> workers_;
  const std::function<void(int)>* work_ = nullptr;
  int count_ = 0, running_ = 0;
  long round_ = 0;
};

}  // namespace tiedexp
