// Layers whose work is hard to divide among many threads, and what each thread has to do.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "division.h"

struct Layer {
  const char* name;
  int batch, side, groups, channels, filters;  // the latter two of a group
};

inline std::vector<Layer> list_layers() {
  return {{"64x32x32 32->32", 64, 32, 1, 32, 32},     {"32x8x8 512->512", 32, 8, 1, 512, 512},
          {"8x7x7 512->512", 8, 7, 1, 512, 512},      {"1x14x14 64->64", 1, 14, 1, 64, 64},
          {"2x7x7 1024->256", 2, 7, 1, 1024, 256},    {"3x28x28 48->40", 3, 28, 1, 48, 40},
          {"32x16x16 256->256 by 4", 32, 16, 4, 64, 64}};
}

// The pattern `block` in 5x5: sums over 1x2, 2x1 and 2x2 cells, and nine taps.
inline tiedexp::Program build_program(int groups, int threads) {
  return {{{{-1, 0, 0, 1}, {-1, 0, 1, 1}}, {{-1, 0, 0, 1}, {-1, 1, 0, 1}}, {{0, 0, 0, 1}, {0, 1, 0, 1}}},
          {{2, 0, 0}, {2, 0, 3}, {2, 3, 0}, {2, 3, 3}, {1, 0, 2}, {1, 3, 2}, {0, 2, 0}, {0, 2, 3}, {-1, 2, 2}},
          5, 5, 1, 1, groups, threads};
}

inline tiedexp::Size build_size(const Layer& layer) {
  return {layer.batch, layer.groups, layer.side, layer.side, layer.channels, layer.side, layer.side, layer.filters,
          2, 2};
}

// Multiply-adds of each thread: items are taken in order by the thread that has least to do, as they are by threads
// that run at the same speed.
template <typename T>
std::vector<double> measure_work(const tiedexp::Program& program, const tiedexp::Size& size,
                                 const tiedexp::Division<T>& division, int64_t inputs) {
  std::vector<double> work(program.threads);
  const int64_t vectors = tiedexp::divide_up(size.filters, tiedexp::Vector<T>::kLanes);
  const int64_t parts = tiedexp::count_parts(vectors, division.filters);
  const double weights = static_cast<double>(program.taps.size()) * size.channels * size.groups / inputs;
  for (int64_t item = 0; item < division.count(); ++item) {
    const tiedexp::Range blocks = tiedexp::find_part(division.blocks.count(), division.slices,
                                                     item / (division.inputs * division.filters));
    const tiedexp::Range some = tiedexp::find_part(inputs, division.inputs, item / division.filters % division.inputs);
    const tiedexp::Range lines = tiedexp::find_part(parts * division.filters, division.filters, item % division.filters);
    int64_t pixels = 0, filters = 0;
    for (int64_t block = blocks.begin; block < blocks.end; ++block) pixels += division.blocks.count_pixels(block);
    for (int64_t part = lines.begin; part < lines.end; ++part) {
      const tiedexp::Range range = tiedexp::find_part(vectors, parts * division.filters, part);
      filters += (range.end - range.begin) * tiedexp::Vector<T>::kLanes;
    }
    *std::min_element(work.begin(), work.end()) += weights * (some.end - some.begin) * pixels * filters;
  }
  return work;
}

struct Work {
  std::string division;
  std::vector<double> threads;
};

template <typename T>
Work describe(const tiedexp::Program& program, const tiedexp::Size& size, const tiedexp::Division<T>& division,
              int64_t inputs) {
  const tiedexp::Portion& portion = division.blocks.portion();
  return {std::to_string(division.blocks.count()) + " blocks of " + std::to_string(portion.images) + "x" +
              std::to_string(portion.rows) + " rows, " + std::to_string(division.slices) + " slices x " +
              std::to_string(division.inputs) + " inputs x " + std::to_string(division.filters) + " filters",
          measure_work(program, size, division, inputs)};
}

inline Work divide_layer(const Layer& layer, int threads, bool gradient) {
  const tiedexp::Program program = build_program(layer.groups, threads);
  const tiedexp::Size size = build_size(layer);
  if (!gradient) {
    return describe(program, size, tiedexp::divide_convolution<float>(program, size), size.groups);
  }
  const tiedexp::Division<float> division = tiedexp::divide_correlation<float>(program, size);
  return describe(program, size, division, size.groups * (size.channels / division.blocks.channels()));
}
