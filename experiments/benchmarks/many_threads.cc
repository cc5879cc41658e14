// What each of so many threads has to do for a layer, and what all of them take; see many_threads.py.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "../../tests/convolution/cpp/work.h"
#include "depthwise.h"

namespace {

double read_cpu_seconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

double read_wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double find_median(std::vector<double> numbers) {
  std::nth_element(numbers.begin(), numbers.begin() + numbers.size() / 2, numbers.end());
  return numbers[numbers.size() / 2];
}

}  // namespace

int main(int, char** arguments) {
  const int threads = std::atoi(arguments[1]), repeats = std::atoi(arguments[2]);
  for (const Layer& layer : list_layers()) {
    const tiedexp::Program program = build_program(layer.groups, threads);
    const tiedexp::Size size = build_size(layer);
    const size_t pixels = static_cast<size_t>(layer.batch) * layer.side * layer.side;
    std::vector<float> images(pixels * size.all_channels(), 0.5f), output(pixels * size.all_filters(), 0.25f);
    std::vector<float> weights(program.taps.size() * layer.channels * size.all_filters(), 0.1f);
    for (const bool gradient : {false, true}) {
      std::vector<double> wall, cpu;
      for (int repeat = 0; repeat <= repeats; ++repeat) {
        const double wall_before = read_wall_seconds(), cpu_before = read_cpu_seconds();
        if (gradient) {
          tiedexp::correlate(program, size, images.data(), output.data(), weights.data());
        } else {
          tiedexp::convolve(program, size, images.data(), weights.data(), output.data());
        }
        if (repeat == 0) continue;  // which starts the threads
        wall.push_back(read_wall_seconds() - wall_before);
        cpu.push_back(read_cpu_seconds() - cpu_before);
      }
      const Work work = divide_layer(layer, threads, gradient);
      const double all = std::accumulate(work.threads.begin(), work.threads.end(), 0.0);
      const double most = *std::max_element(work.threads.begin(), work.threads.end());
      const int busy = static_cast<int>(std::count_if(work.threads.begin(), work.threads.end(),
                                                      [](double each) { return each > 0; }));
      std::printf("%s;%s;%d;%d;%.3f;%.3f;%.3f;%.3f;%s\n", layer.name, gradient ? "gradient" : "output", threads, busy,
                  all / threads * 1e-6, most * 1e-6, find_median(wall) * 1e3, find_median(cpu) * 1e3,
                  work.division.c_str());
      std::fflush(stdout);
    }
  }
}
