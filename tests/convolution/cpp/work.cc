// Prints the work of each layer of work.h: name; threads; those that have work; multiply-adds of one on average; most.
#include "work.h"

#include <cstdio>
#include <numeric>

int main() {
  for (const Layer& layer : list_layers()) {
    for (const bool gradient : {false, true}) {
      for (const int threads : {2, 3, 16, 64}) {
        const std::vector<double> work = divide_layer(layer, threads, gradient).threads;
        const auto is_busy = [](double each) { return each > 0; };
        std::printf("%s %s;%d;%d;%.0f;%.0f\n", layer.name, gradient ? "gradient" : "output", threads,
                    static_cast<int>(std::count_if(work.begin(), work.end(), is_busy)),
                    std::accumulate(work.begin(), work.end(), 0.0) / threads,
                    *std::max_element(work.begin(), work.end()));
      }
    }
  }
}
