// Threads that wait for work, so that none is started for every convolution.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace tiedexp {

class Threads {
 public:
  // Those of the process. They are never joined: at its exit the system ends them. A forked child has none of its
  // parent's threads, so it begins with new ones.
  static Threads& shared() {
    static std::atomic<Threads*> threads = [] {
      pthread_atfork(nullptr, nullptr, [] { threads = new Threads; });
      return new Threads;
    }();
    return *threads;
  }

  // Calls work(0) .. work(count - 1), each in a thread of its own; returns when all are done. Where one throws, the
  // first exception is thrown to the caller, after the others are done. The caller only waits: TensorFlow calls now
  // from this thread and now from that, and a system that finds two threads on one processor may take longer to part
  // them than a convolution lasts.
  void run(int count, const std::function<void(int)>& work) {
    if (count <= 1) return work(0);
    std::lock_guard<std::mutex> one_caller(callers_);
    std::unique_lock<std::mutex> lock(mutex_);
    while (static_cast<int>(workers_.size()) < count) start_worker();
    work_ = &work;
    failure_ = nullptr;
    running_ = count;
    for (int number = 0; number < count; ++number) workers_[number].has_work = true;
    lock.unlock();
    for (int number = 0; number < count; ++number) workers_[number].begin.notify_one();
    lock.lock();
    end_.wait(lock, [this] { return running_ == 0; });
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

 private:
  struct Worker {
    std::condition_variable begin;
    bool has_work = false;
  };

  void start_worker() {
    const int number = static_cast<int>(workers_.size());
    workers_.emplace_back();
    try {
      std::thread([this, number, &worker = workers_.back()] { serve(number, worker); }).detach();
    } catch (...) {  // the system has no thread left
      workers_.pop_back();
      throw;
    }
  }

  void serve(int number, Worker& worker) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      worker.begin.wait(lock, [&] { return worker.has_work; });
      worker.has_work = false;
      const std::function<void(int)>& work = *work_;
      lock.unlock();
      std::exception_ptr failure;
      try {
        work(number);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      if (failure && !failure_) failure_ = failure;
      if (--running_ == 0) end_.notify_one();
    }
  }

  std::mutex callers_, mutex_;
  std::condition_variable end_;
  std::deque<Worker> workers_;  // which stay where they are when it grows
  const std::function<void(int)>* work_ = nullptr;
  std::exception_ptr failure_;
  int running_ = 0;
};

}  // namespace tiedexp
