// A tied convolution, and its gradient for the weights, by sum images that never leave the cache.
//
//   output[pixel, filter] = sum over taps and channels of image(tap)[pixel + cell(tap), channel] * weight
//
// is accumulated in registers: a tile of some pixels times up to four vectors of filters, through all taps and
// channels. The gradient of a weight is the sum over pixels of the same products with the output's gradient; its tile
// is some channels times the vectors of filters, through the pixels at hand.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "sum_images.h"
#include "threads.h"

namespace tiedexp {

// Some filters, as vectors. Weights of all of them lie one after the other as (parts of the channels, taps, channels of
// a part, lanes), so that they are read in order.
struct Filters {
  int first, count, vectors;
  size_t weights;  // where they begin
};

template <typename T>
int count_lanes(const Filters& filters) {
  return filters.vectors * Vector<T>::kLanes;
}

template <typename T>
std::vector<Filters> split_filters(const Program& program, const Size& size) {
  std::vector<Filters> parts;
  const int lanes = Vector<T>::kLanes, all = divide_up(size.filters, lanes), count = divide_up(all, kMaxVectors);
  size_t weights = 0;
  for (int part = 0; part < count; ++part) {
    const int begin = all * part / count, end = all * (part + 1) / count;
    parts.push_back({begin * lanes, std::min(size.filters, end * lanes) - begin * lanes, end - begin, weights});
    weights += program.taps.size() * size.channels * count_lanes<T>(parts.back());
  }
  return parts;
}

template <typename T>
size_t count_weights(const Program& program, const Size& size) {
  return program.taps.size() * size.channels * divide_up(size.filters, Vector<T>::kLanes) * Vector<T>::kLanes;
}

// Calls visit(group, a line of its weights in the order (taps, channels, filters), the same as kept for the parts of
// the filters).
template <typename Visit>
void visit_lines(const Program& program, const Size& size, int channels, Visit visit) {
  for (int group = 0; group < size.groups; ++group) {
    ptrdiff_t kept = 0;
    for (int first = 0; first < size.channels; first += channels) {
      for (size_t tap = 0; tap < program.taps.size(); ++tap) {
        for (int channel = first; channel < first + channels; ++channel) {
          visit(group, static_cast<ptrdiff_t>(tap) * size.channels + channel, kept++);
        }
      }
    }
  }
}

// Memory that a thread keeps from one convolution to the next.
template <typename T>
T* get_buffer(size_t elements) {
  thread_local Buffer<T> buffer;
  if (buffer.size() < elements) buffer.resize(elements);
  return buffer.data();
}

template <typename T>
struct ConvolveTile {
  const std::vector<const T*>& taps;  // where each reads
  const ptrdiff_t* offsets;           // of the pixels
  int channels;
  const T* weights;
  T* output;
  ptrdiff_t filters;  // from pixel to pixel of the output
  int valid;          // filters of the tile; its vectors may have more
  bool accumulate;    // onto what is in the output

  template <int kPixels, int kVectors>
  void run() const {
    using V = Vector<T>;
    typename V::Value sums[kPixels][kVectors] = {};
    const T* weight = weights;
    for (const T* tap : taps) {
      const T* pixels[kPixels];
      for (int pixel = 0; pixel < kPixels; ++pixel) pixels[pixel] = tap + offsets[pixel];
      for (int channel = 0; channel < channels; ++channel) {
        typename V::Value line[kVectors];
        for (int v = 0; v < kVectors; ++v) line[v] = V::load(weight + v * V::kLanes);
        weight += kVectors * V::kLanes;
        for (int pixel = 0; pixel < kPixels; ++pixel) {
          for (int v = 0; v < kVectors; ++v) sums[pixel][v] += pixels[pixel][channel] * line[v];
        }
      }
    }
    for (int pixel = 0; pixel < kPixels; ++pixel) {
      T* to = output + pixel * filters;
      if (valid == kVectors * V::kLanes) {
        for (int v = 0; v < kVectors; ++v) {
          V::store(to + v * V::kLanes, accumulate ? V::load(to + v * V::kLanes) + sums[pixel][v] : sums[pixel][v]);
        }
      } else {
        T line[kVectors * V::kLanes];
        std::memcpy(line, sums[pixel], sizeof line);
        for (int filter = 0; filter < valid; ++filter) to[filter] = accumulate ? to[filter] + line[filter] : line[filter];
      }
    }
  }
};

template <typename T>
struct CorrelateTile {
  const T* image;  // the first channel, where the tap reads
  const ptrdiff_t* offsets;
  int64_t pixels;
  const T* upstream;
  ptrdiff_t step;  // from pixel to pixel of it
  T* gradient;     // (channels, lanes of the vectors): added to

  template <int kChannels, int kVectors>
  void run() const {
    using V = Vector<T>;
    typename V::Value sums[kChannels][kVectors];
    for (int channel = 0; channel < kChannels; ++channel) {
      for (int v = 0; v < kVectors; ++v) {
        sums[channel][v] = V::load(gradient + (channel * kVectors + v) * V::kLanes);
      }
    }
    const T* right = upstream;
    for (int64_t pixel = 0; pixel < pixels; ++pixel, right += step) {
      const T* left = image + offsets[pixel];
      typename V::Value line[kVectors];
      for (int v = 0; v < kVectors; ++v) line[v] = V::load(right + v * V::kLanes);
      for (int channel = 0; channel < kChannels; ++channel) {
        for (int v = 0; v < kVectors; ++v) sums[channel][v] += left[channel] * line[v];
      }
    }
    for (int channel = 0; channel < kChannels; ++channel) {
      for (int v = 0; v < kVectors; ++v) {
        V::store(gradient + (channel * kVectors + v) * V::kLanes, sums[channel][v]);
      }
    }
  }
};

// Runs the tile of a size that is known only now.
template <int kVectors, int kLength, typename Tile>
void run_tile(const Tile& tile, int length) {
  if constexpr (kLength > 0) {
    if (length == kLength) return tile.template run<kLength, kVectors>();
    run_tile<kVectors, kLength - 1>(tile, length);
  }
}

// Calls make(begin).run<length, vectors>() for tiles that together are `count` long.
template <typename Make>
void run_tiles(int vectors, int64_t count, Make make) {
  const int64_t tiles = divide_up(count, tile_size(vectors));
  for (int64_t tile = 0, begin = 0; tile < tiles; ++tile) {
    const int64_t end = count * (tile + 1) / tiles;
    const int length = static_cast<int>(end - begin);
    switch (vectors) {
      case 1: run_tile<1, tile_size(1)>(make(begin), length); break;
      case 2: run_tile<2, tile_size(2)>(make(begin), length); break;
      case 3: run_tile<3, tile_size(3)>(make(begin), length); break;
      case 4: run_tile<4, tile_size(4)>(make(begin), length); break;
    }
    begin = end;
  }
}

// Input (batch, rows, cols, channels) and weights (taps, channels of a group, filters) to output (batch, rows, cols,
// filters).
template <typename T>
void convolve(const Program& program, const Size& size, const T* input, const T* weights, T* output) {
  if (is_empty(size)) return;
  const Block<T> plan(program, size);
  const std::vector<Filters> parts = split_filters<T>(program, size);
  const size_t count = count_weights<T>(program, size);
  Buffer<T> packed(count * size.groups);
  visit_lines(program, size, plan.channels(), [&](int group, ptrdiff_t line, ptrdiff_t kept) {
    for (const Filters& part : parts) {
      std::copy_n(weights + line * size.all_filters() + group * size.filters + part.first, part.count,
                  packed.data() + group * count + part.weights + kept * count_lanes<T>(part));
    }
  });
  std::atomic<int64_t> next{0};
  Threads::shared().run(program.threads, [&](int) {
    Block<T> block = plan;
    T* buffer = get_buffer<T>(block.elements());
    std::vector<const T*> taps(program.taps.size());
    for (int64_t item; (item = next++) < block.count() * size.groups;) {
      const int64_t number = item / size.groups, group = item % size.groups;
      T* to = output + block.first_pixel(number) * size.all_filters() + group * size.filters;
      for (int first = 0; first < size.channels; first += block.channels()) {
        block.fill(input, number, group * size.channels + first, buffer);
        for (size_t tap = 0; tap < taps.size(); ++tap) taps[tap] = block.at(program.taps[tap]);
        for (const Filters& part : parts) {
          const T* lines =
              packed.data() + group * count + part.weights + first * taps.size() * count_lanes<T>(part);
          run_tiles(part.vectors, block.count_pixels(number), [&](int64_t pixel) {
            return ConvolveTile<T>{taps,
                                   block.offsets() + pixel,
                                   block.channels(),
                                   lines,
                                   to + pixel * size.all_filters() + part.first,
                                   size.all_filters(),
                                   part.count,
                                   first > 0};
          });
        }
      }
    }
  });
}

// Input and the output's gradient to that of the weights. Each thread sums up its own part of the batch, always the
// same one, so that the result is the same to the last bit for the same number of threads.
template <typename T>
void correlate(const Program& program, const Size& size, const T* input, const T* upstream, T* gradient) {
  if (is_empty(size)) {
    std::fill_n(gradient, program.taps.size() * size.channels * size.all_filters(), T(0));
    return;
  }
  const Block<T> plan(program, size);
  const std::vector<Filters> parts = split_filters<T>(program, size);
  const size_t count = count_weights<T>(program, size);
  const int padded = static_cast<int>(divide_up(size.filters, Vector<T>::kLanes)) * Vector<T>::kLanes;
  Buffer<T> sums(count * size.groups * program.threads);
  Threads::shared().run(program.threads, [&](int thread) {
    Block<T> block = plan;
    T* buffer = get_buffer<T>(block.elements() + block.pixels() * padded);
    T* copy = buffer + block.elements();
    const int64_t items = block.count() * size.groups;
    for (int64_t item = items * thread / program.threads; item < items * (thread + 1) / program.threads; ++item) {
      const int64_t number = item / size.groups, group = item % size.groups, pixels = block.count_pixels(number);
      const T* right = upstream + block.first_pixel(number) * size.all_filters() + group * size.filters;
      ptrdiff_t step = size.all_filters();
      if (padded != size.filters) {  // zeros where vectors reach beyond the filters
        for (int64_t pixel = 0; pixel < pixels; ++pixel) {
          std::copy_n(right + pixel * step, size.filters, copy + pixel * padded);
          std::fill_n(copy + pixel * padded + size.filters, padded - size.filters, T(0));
        }
        right = copy;
        step = padded;
      }
      for (int first = 0; first < size.channels; first += block.channels()) {
        block.fill(input, number, group * size.channels + first, buffer);
        for (const Filters& part : parts) {
          const int lanes = count_lanes<T>(part);
          T* sum = sums.data() + (thread * size.groups + group) * count + part.weights +
                   first * program.taps.size() * lanes;
          for (const Tap& tap : program.taps) {
            run_tiles(part.vectors, block.channels(), [&](int64_t channel) {
              return CorrelateTile<T>{block.at(tap) + channel, block.offsets(), pixels, right + part.first, step,
                                      sum + channel * lanes};
            });
            sum += block.channels() * lanes;
          }
        }
      }
    }
  });
  visit_lines(program, size, plan.channels(), [&](int group, ptrdiff_t line, ptrdiff_t kept) {
    for (const Filters& part : parts) {
      for (int filter = 0; filter < part.count; ++filter) {
        T sum = 0;
        for (int thread = 0; thread < program.threads; ++thread) {
          sum += sums[(thread * size.groups + group) * count + part.weights + kept * count_lanes<T>(part) + filter];
        }
        gradient[line * size.all_filters() + group * size.filters + part.first + filter] = sum;
      }
    }
  });
}

}  // namespace tiedexp
