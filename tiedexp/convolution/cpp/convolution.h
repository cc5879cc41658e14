// A tied convolution and its gradient for the weights, from sums that never leave the cache.
//
//   output[pixel, filter] = sum over taps and channels of sum(tap)[pixel + cell(tap), channel] * weight
//
// is accumulated in registers: a tile of some pixels times up to four vectors of filters, through all taps and
// channels. The gradient of a weight is the sum over pixels of the same products with the output's gradient; its tile
// is some channels times the vectors of filters, through the pixels at hand.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "division.h"
#include "sums.h"
#include "threads.h"

namespace tiedexp {

// Some filters, as vectors. The weights of all of them lie one after the other, as (portions of the channels, taps,
// channels of a portion, lanes), so that they are read in order.
struct Filters {
  int first, count, vectors;
  size_t weights;  // where they begin
};

template <typename T>
int count_lanes(const Filters& filters) {
  return filters.vectors * Vector<T>::kLanes;
}

// All filters of a group in parts that tiles can compute, equally many for each of `divided` threads.
template <typename T>
std::vector<Filters> split_filters(const Program& program, const Size& size, int64_t divided) {
  std::vector<Filters> parts;
  const int64_t lanes = Vector<T>::kLanes, all = divide_up(size.filters, lanes);
  const int count = static_cast<int>(count_parts(all, divided) * divided);
  size_t weights = 0;
  for (int part = 0; part < count; ++part) {
    const Range vectors = find_part(all, count, part);
    const int first = static_cast<int>(vectors.begin * lanes);
    const int end = static_cast<int>(std::min<int64_t>(size.filters, vectors.end * lanes));
    parts.push_back({first, end - first, static_cast<int>(vectors.end - vectors.begin), weights});
    weights += program.taps.size() * size.channels * count_lanes<T>(parts.back());
  }
  return parts;
}

template <typename T>
size_t count_weights(const Program& program, const Size& size) {
  return program.taps.size() * size.channels * divide_up(size.filters, Vector<T>::kLanes) * Vector<T>::kLanes;
}

// Weights are stored in lines of all filters, in the order (groups, portions of the channels, taps, channels of a portion)
// instead of the tensor's (taps, channels, filters). Calls visit(group, line of its weights, stored line) for some lines.
template <typename Visit>
void visit_lines(const Program& program, const Size& size, int channels, int64_t begin, int64_t end, Visit visit) {
  const int64_t taps = static_cast<int64_t>(program.taps.size()), lines = taps * size.channels;
  for (int64_t number = begin; number < end; ++number) {
    const int64_t kept = number % lines, portion = kept / (taps * channels), tap = kept / channels % taps;
    visit(number / lines, tap * size.channels + portion * channels + kept % channels, kept);
  }
}

inline int64_t count_lines(const Program& program, const Size& size) {
  return static_cast<int64_t>(program.taps.size()) * size.channels * size.groups;
}

// It is an error if one thread needs more than this for its sums.
constexpr size_t kMaxBufferBytes = size_t{1} << 31;

// Memory that a thread keeps for the next convolution, unless it is much more than that one needs.
template <typename T>
T* get_buffer(size_t elements) {
  thread_local Buffer<T> buffer;
  if (elements > kMaxBufferBytes / sizeof(T)) throw std::bad_alloc();
  const size_t most = 4 * std::max(elements, kBufferBytes / sizeof(T));
  if (buffer.size() < elements || buffer.size() > most) {
    buffer = Buffer<T>();
    buffer = Buffer<T>(elements);
  }
  return buffer.data();
}

// Tiles are functions of their own: when several of them are inlined into one function, GCC and Clang run out of registers,
// and keep a total in memory.
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
  [[gnu::noinline]] void run() const {
    using V = Vector<T>;
    typename V::Value totals[kPixels][kVectors] = {};
    const T* weight = weights;
    for (const T* tap : taps) {
      const T* pixels[kPixels];
      for (int pixel = 0; pixel < kPixels; ++pixel) pixels[pixel] = tap + offsets[pixel];
      for (int channel = 0; channel < channels; ++channel) {
        typename V::Value line[kVectors];
        for (int v = 0; v < kVectors; ++v) line[v] = V::load(weight + v * V::kLanes);
        weight += kVectors * V::kLanes;
        for (int pixel = 0; pixel < kPixels; ++pixel) {
          for (int v = 0; v < kVectors; ++v) totals[pixel][v] += pixels[pixel][channel] * line[v];
        }
      }
    }
    if (valid == kVectors * V::kLanes) {
      T* to = output;
      for (int pixel = 0; accumulate && pixel < kPixels; ++pixel, to += filters) {
        for (int v = 0; v < kVectors; ++v) totals[pixel][v] += V::load(to + v * V::kLanes);
      }
      to = output;
      for (int pixel = 0; pixel < kPixels; ++pixel, to += filters) {
        for (int v = 0; v < kVectors; ++v) V::store(to + v * V::kLanes, totals[pixel][v]);
      }
      return;
    }
    // Through a copy: Clang keeps `totals` in registers only where all its indices are constants.
    T lines[kPixels][kVectors * V::kLanes];
    for (int pixel = 0; pixel < kPixels; ++pixel) {
      for (int v = 0; v < kVectors; ++v) V::store(lines[pixel] + v * V::kLanes, totals[pixel][v]);
    }
    for (int pixel = 0; pixel < kPixels; ++pixel) {
      T* to = output + pixel * filters;
      for (int filter = 0; filter < valid; ++filter) {
        to[filter] = accumulate ? to[filter] + lines[pixel][filter] : lines[pixel][filter];
      }
    }
  }
};

// The number of pixels, and the least number of blocks, that are added up before they are added to a gradient.
constexpr int64_t kStretch = 256, kBlocks = 16;

template <typename T>
struct CorrelateTile {
  const T* source;  // the first channel, where the tap reads
  const ptrdiff_t* offsets;
  int64_t pixels;
  const T* upstream;
  ptrdiff_t step;  // from pixel to pixel of it
  T* gradient;     // (channels, lanes of the vectors): added to

  // Only kStretch pixels at a time, so that rounding errors do not grow with the size of the batch.
  template <int kChannels, int kVectors>
  void run() const {
    for (int64_t pixel = 0; pixel < pixels; pixel += kStretch) {
      run_stretch<kChannels, kVectors>(pixel, std::min(pixels, pixel + kStretch));
    }
  }

  template <int kChannels, int kVectors>
  [[gnu::noinline]] void run_stretch(int64_t begin, int64_t end) const {
    using V = Vector<T>;
    typename V::Value totals[kChannels][kVectors] = {};
    const T* right = upstream + begin * step;
    for (int64_t pixel = begin; pixel < end; ++pixel, right += step) {
      const T* left = source + offsets[pixel];
      typename V::Value line[kVectors];
      for (int v = 0; v < kVectors; ++v) line[v] = V::load(right + v * V::kLanes);
      for (int channel = 0; channel < kChannels; ++channel) {
        for (int v = 0; v < kVectors; ++v) totals[channel][v] += left[channel] * line[v];
      }
    }
    for (int channel = 0; channel < kChannels; ++channel) {
      for (int v = 0; v < kVectors; ++v) {
        T* to = gradient + (channel * kVectors + v) * V::kLanes;
        V::store(to, V::load(to) + totals[channel][v]);
      }
    }
  }
};

// Runs the tile of a length that is known only at run time.
template <int kVectors, int kLength, typename Tile>
void run_tile(const Tile& tile, int length) {
  if constexpr (kLength > 0) {
    if (length == kLength) return tile.template run<kLength, kVectors>();
    run_tile<kVectors, kLength - 1>(tile, length);
  }
}

// Calls make(begin).run<length, vectors>() for tiles that together are `count` long.
template <int kVectors = kMaxVectors, typename Make>
void run_tiles(int vectors, int64_t count, Make make) {
  if constexpr (kVectors > 0) {
    if (vectors != kVectors) return run_tiles<kVectors - 1>(vectors, count, make);
    const int64_t tiles = divide_up(count, tile_size(kVectors));
    for (int64_t tile = 0, begin = 0; tile < tiles; ++tile) {
      const int64_t end = count * (tile + 1) / tiles;
      run_tile<kVectors, tile_size(kVectors)>(make(begin), static_cast<int>(end - begin));
      begin = end;
    }
  }
}

// The weights in the order in which they are stored, with zeros where vectors reach beyond the filters.
template <typename T>
Buffer<T> pack_weights(const Program& program, const Size& size, int channels, const std::vector<Filters>& parts,
                       const T* weights) {
  const size_t count = count_weights<T>(program, size);
  Buffer<T> packed(count * size.groups);
  share(count_lines(program, size), static_cast<double>(packed.size()), program.threads,
        [&](int64_t begin, int64_t end) {
    visit_lines(program, size, channels, begin, end, [&](int64_t group, int64_t line, int64_t kept) {
      const T* from = weights + line * size.all_filters() + group * size.filters;
      for (const Filters& part : parts) {
        T* to = packed.data() + group * count + part.weights + kept * count_lanes<T>(part);
        std::fill_n(std::copy_n(from + part.first, part.count, to), count_lanes<T>(part) - part.count, T(0));
      }
    });
  });
  return packed;
}

// Input (batch, rows, cols, channels) and weights (taps, channels of a group, filters) to output (batch, rows, cols,
// filters).
template <typename T>
void convolve(const Program& program, const Size& size, const T* input, const T* weights, T* output) {
  if (is_empty(size)) return;
  const Division<T> work = divide_convolution<T>(program, size);
  const std::vector<Filters> parts = split_filters<T>(program, size, work.filters);
  const size_t count = count_weights<T>(program, size);
  const Buffer<T> packed = pack_weights(program, size, work.blocks.channels(), parts, weights);
  std::atomic<int64_t> next{0};
  Threads::shared().run(work.threads, [&](int) {
    Block<T> block(work.blocks);
    T* buffer = get_buffer<T>(block.elements());
    std::vector<const T*> taps(program.taps.size());
    for (int64_t item; (item = next++) < work.count();) {
      const int64_t number = item / (size.groups * work.filters), group = item / work.filters % size.groups;
      const int64_t pixels = block.count_pixels(number);
      T* to = output + block.first_pixel(number) * size.all_filters() + group * size.filters;
      for (int first = 0; first < size.channels; first += block.channels()) {
        block.fill(input, number, group * size.channels + first, buffer);
        for (size_t tap = 0; tap < taps.size(); ++tap) taps[tap] = block.at(program.taps[tap]);
        const Range filters = find_part(parts.size(), work.filters, item % work.filters);
        for (int64_t number_of_part = filters.begin; number_of_part < filters.end; ++number_of_part) {
          const Filters& part = parts[number_of_part];
          const T* lines = packed.data() + group * count + part.weights + first * taps.size() * count_lanes<T>(part);
          run_tiles(part.vectors, pixels, [&](int64_t pixel) {
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

// Copies of a gradient, one for each slice of the blocks. If there are many blocks, a second copy holds what was added up
// before, so that numbers of very different size are rarely added.
template <typename T>
class Copies {
 public:
  Copies(size_t count, const Division<T>& work)
      : count_(count),
        slices_(work.slices),
        interval_(std::max(kBlocks, static_cast<int64_t>(std::sqrt(work.blocks.count() / work.slices)))),
        copies_(work.blocks.count() / work.slices > interval_ ? 2 * work.slices : work.slices),
        memory_(count * copies_) {}

  size_t size() const { return memory_.size(); }
  T* at(int64_t slice) { return memory_.data() + slice * count_; }

  // Sets some elements to zero.
  void clear(int64_t slice, size_t first, size_t length) {
    for (; slice < copies_; slice += slices_) std::fill_n(at(slice) + first, length, T(0));
  }

  // Whether enough blocks were added since the elements of a slice were last put aside.
  bool is_due(int64_t blocks) const { return copies_ > slices_ && blocks > 0 && blocks % interval_ == 0; }

  void put_aside(int64_t slice, size_t first, size_t length) {
    T *from = at(slice) + first, *to = at(slice + slices_) + first;
    for (size_t i = 0; i < length; ++i) to[i] += from[i];
    std::fill_n(from, length, T(0));
  }

  // The sum of all copies.
  void add_up(size_t first, size_t length, T* to) {
    std::copy_n(at(0) + first, length, to);
    for (int64_t copy = 1; copy < copies_; ++copy) {
      const T* from = at(copy) + first;
      for (size_t i = 0; i < length; ++i) to[i] += from[i];
    }
  }

 private:
  const size_t count_;
  const int64_t slices_, interval_, copies_;
  Buffer<T> memory_;
};

// The gradient of the weights.
template <typename T>
class Correlation {
 public:
  Correlation(const Program& program, const Size& size, const T* input, const T* upstream)
      : program_(program),
        size_(size),
        input_(input),
        upstream_(upstream),
        work_(divide_correlation<T>(program, size)),
        parts_(split_filters<T>(program, size, work_.filters)),
        padded_(static_cast<int>(divide_up(size.filters, Vector<T>::kLanes)) * Vector<T>::kLanes),
        count_(count_weights<T>(program, size)),
        copies_(count_ * size.groups, work_) {}

  void run(T* gradient) {
    Threads::shared().run(work_.threads, [&](int item) { run_item(item); });
    share(count_lines(program_, size_), static_cast<double>(copies_.size()), program_.threads,
          [&](int64_t begin, int64_t end) { add_lines(begin, end, gradient); });
  }

 private:
  // Some inputs (a group and a portion of its channels each) and filters of one slice.
  void run_item(int item) {
    Block<T> block(work_.blocks);
    T* buffer = get_buffer<T>(block.elements() + (padded_ == size_.filters ? 0 : block.pixels() * padded_));
    T* copy = buffer + block.elements();
    const int64_t slice = item / (work_.inputs * work_.filters), portions = size_.channels / block.channels();
    const Range numbers = find_part(block.count(), work_.slices, slice);
    const Range inputs = find_part(size_.groups * portions, work_.inputs, item / work_.filters % work_.inputs);
    const Range filters = find_part(parts_.size(), work_.filters, item % work_.filters);
    // Calls use(part of the filters, where its gradient begins in a copy, its length).
    const auto visit = [&](int64_t input, auto use) {
      const size_t lines = block.channels() * program_.taps.size();
      for (int64_t number = filters.begin; number < filters.end; ++number) {
        const Filters& part = parts_[number];
        use(part, input / portions * count_ + part.weights + input % portions * lines * count_lanes<T>(part),
            lines * count_lanes<T>(part));
      }
    };
    for (int64_t number = numbers.begin; number < numbers.end; ++number) {
      for (int64_t input = inputs.begin; input < inputs.end; ++input) {
        const int64_t group = input / portions, portion = input % portions;
        visit(input, [&](const Filters&, size_t first, size_t length) {
          if (number == numbers.begin) copies_.clear(slice, first, length);
          if (copies_.is_due(number - numbers.begin)) copies_.put_aside(slice, first, length);
        });
        if (input == inputs.begin || portion == 0) pad_upstream(block, number, group, copy);
        block.fill(input_, number, group * size_.channels + portion * block.channels(), buffer);
        visit(input, [&](const Filters& part, size_t first, size_t) {
          add_block(block, number, group, part, copy, copies_.at(slice) + first);
        });
      }
    }
  }

  // Copies the output's gradient of a block and a group with zeros where vectors reach beyond the filters, if they do.
  void pad_upstream(const Block<T>& block, int64_t number, int64_t group, T* copy) const {
    if (padded_ == size_.filters) return;
    const T* from = find_upstream(block, number, group);
    for (int64_t pixel = 0; pixel < block.count_pixels(number); ++pixel, from += size_.all_filters(), copy += padded_) {
      std::fill_n(std::copy_n(from, size_.filters, copy), padded_ - size_.filters, T(0));
    }
  }

  const T* find_upstream(const Block<T>& block, int64_t number, int64_t group) const {
    return upstream_ + block.first_pixel(number) * size_.all_filters() + group * size_.filters;
  }

  void add_block(const Block<T>& block, int64_t number, int64_t group, const Filters& part, const T* copy,
                 T* gradient) const {
    const bool is_padded = padded_ != size_.filters;
    const T* right = (is_padded ? copy : find_upstream(block, number, group)) + part.first;
    const ptrdiff_t step = is_padded ? padded_ : size_.all_filters();
    const int64_t pixels = block.count_pixels(number);
    for (const Tap& tap : program_.taps) {
      const T* source = block.at(tap);
      run_tiles(part.vectors, block.channels(), [&](int64_t channel) {
        return CorrelateTile<T>{source + channel,
                                block.offsets(),
                                pixels,
                                right,
                                step,
                                gradient + channel * count_lanes<T>(part)};
      });
      gradient += block.channels() * count_lanes<T>(part);
    }
  }

  void add_lines(int64_t begin, int64_t end, T* gradient) {
    visit_lines(program_, size_, work_.blocks.channels(), begin, end, [&](int64_t group, int64_t line, int64_t kept) {
      for (const Filters& part : parts_) {
        copies_.add_up(group * count_ + part.weights + kept * count_lanes<T>(part), part.count,
                       gradient + line * size_.all_filters() + group * size_.filters + part.first);
      }
    });
  }

  const Program& program_;
  const Size& size_;
  const T *input_, *upstream_;
  const Division<T> work_;
  const std::vector<Filters> parts_;
  const int padded_;  // filters of a group in whole vectors
  const size_t count_;
  Copies<T> copies_;
};

// Input and the output's gradient to the gradient of the weights. Which thread adds up what depends only on the sizes and
// the number of threads, so the result is always the same to the last bit.
template <typename T>
void correlate(const Program& program, const Size& size, const T* input, const T* upstream, T* gradient) {
  if (is_empty(size)) {
    std::fill_n(gradient, count_lines(program, size) * size.filters, T(0));
    return;
  }
  Correlation<T>(program, size, input, upstream).run(gradient);
}

}  // namespace tiedexp
