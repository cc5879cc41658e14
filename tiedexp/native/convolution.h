// A tied convolution, and its gradient for the weights, by sum images that never leave the cache.
//
// The output is computed a few rows at a time. For these the input is copied with its padding into a buffer of the
// thread, and each sum image is made there, as a sum of shifted lists of pixels: in a list without gaps, a shift by
// rows and columns is a shift by a number of pixels. What wraps around at the end of a row is read by nobody. Then
//
//   output[pixel, filter] = sum over taps and channels of image(tap)[pixel + cell(tap), channel] * weight
//
// is accumulated in registers: a tile of some pixels times up to four vectors of filters, through all taps and
// channels. The gradient of a weight is the sum over pixels of the same products with the output's gradient; its tile
// is some channels times the vectors of filters, through the pixels of the rows at hand.
#pragma once

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#include "threads.h"

namespace tiedexp {

// Registers of the processor: their bytes, and how many of them a tile may use for its sums.
#if defined(__AVX512F__)
constexpr int kBytes = 64, kSums = 24;
#elif defined(__AVX__)
constexpr int kBytes = 32, kSums = 12;
#elif defined(__aarch64__)
constexpr int kBytes = 16, kSums = 24;
#else
constexpr int kBytes = 16, kSums = 12;
#endif
constexpr int kMaxVectors = 4;
// A tile's sums in one direction: of the vectors in the other there are at most four.
constexpr int tile_size(int vectors) { return vectors == 1 ? kSums / 2 : kSums / vectors; }
// The images of as many rows as fit are made at a time: half of a usual second-level cache.
constexpr size_t kBufferBytes = 384 * 1024;

template <typename T>
struct Vector {
  static constexpr int kLanes = kBytes / sizeof(T);
  typedef T Value __attribute__((vector_size(kBytes)));
  typedef T Unaligned __attribute__((vector_size(kBytes), aligned(sizeof(T)), may_alias));
  static Value load(const T* from) { return *reinterpret_cast<const Unaligned*>(from); }
  static void store(T* to, Value value) { *reinterpret_cast<Unaligned*>(to) = value; }
};

// Memory that begins where a vector may: one that lies across two lines of the cache takes twice the time to read.
template <typename T>
struct Aligned {
  using value_type = T;
  Aligned() = default;
  template <typename U>
  Aligned(const Aligned<U>&) {}
  T* allocate(size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(kBytes)));
  }
  void deallocate(T* memory, size_t) { ::operator delete(memory, std::align_val_t(kBytes)); }
  friend bool operator==(const Aligned&, const Aligned&) { return true; }
  friend bool operator!=(const Aligned&, const Aligned&) { return false; }
};
template <typename T>
using Buffer = std::vector<T, Aligned<T>>;

// One summand of an image: an earlier image (-1: the input), read so many pixels down and to the right.
struct Term {
  int image, row, col, sign;
};

struct Tap {
  int image, row, col;
};

// A factoring; rows and columns are pixels, dilation included.
struct Program {
  std::vector<std::vector<Term>> images;
  std::vector<Tap> taps;
  int rows, cols;  // what the kernel covers
  int stride_down, stride_across;
  int threads;
};

struct Size {
  int64_t batch;
  int rows, cols, channels;     // of the input
  int out_rows, out_cols, filters;
  int above, left;              // zeros around the input; negative where its first rows and columns are not read
};

inline int divide_up(int number, int by) { return (number + by - 1) / by; }

// The images of one block of output rows.
template <typename T>
class Block {
 public:
  Block(const Program& program, const Size& size) : program_(program), size_(size) {
    line_ = ((size.out_cols - 1) * program.stride_across + program.cols) * static_cast<ptrdiff_t>(size.channels);
    find_rows();
    rows_ = size.out_rows;
    while (rows_ > 1 && count_elements(rows_) * sizeof(T) > kBufferBytes) --rows_;
    rows_ = divide_up(size.out_rows, divide_up(size.out_rows, rows_));  // blocks of nearly equal size
  }

  int rows() const { return rows_; }
  int count() const { return divide_up(size_.out_rows, rows_); }
  size_t elements() const { return count_elements(rows_); }

  // Makes the images in a buffer of so many `elements`.
  void fill(const T* input, int64_t number, int first_row, T* buffer) {
    const int out_rows = std::min(rows_, size_.out_rows - first_row);
    images_.resize(spans_.size());
    for (size_t image = 0; image < spans_.size(); ++image) {
      images_[image] = buffer - spans_[image].first * line_;
      buffer += count_room(image, rows_);
    }
    copy_input(input + number * size_.rows * size_.cols * size_.channels,
               first_row * program_.stride_down - size_.above, count_rows(0, out_rows));
    for (size_t image = 1; image < spans_.size(); ++image) {
      if (count_rows(image, out_rows) > 0) add(image, count_rows(image, out_rows));
    }
  }

  // Where a tap reads for the first pixel of a row of the block.
  const T* at(const Tap& tap, int row) const {
    return images_[tap.image + 1] + (row * program_.stride_down + tap.row) * line_ + tap.col * size_.channels;
  }

  ptrdiff_t row_step() const { return program_.stride_down * line_; }
  ptrdiff_t pixel_step() const { return program_.stride_across * static_cast<ptrdiff_t>(size_.channels); }

 private:
  // Rows of the kernel at which an image is read, first to last.
  struct Span {
    int first = INT_MAX, last = INT_MIN;
    void include(int from, int to) {
      first = std::min(first, from);
      last = std::max(last, to);
    }
  };

  void find_rows() {
    spans_.resize(program_.images.size() + 1);
    spans_[0].include(0, 0);
    for (const Tap& tap : program_.taps) spans_[tap.image + 1].include(tap.row, tap.row);
    for (size_t image = program_.images.size(); image > 0; --image) {
      const Span span = spans_[image];
      if (span.first > span.last) continue;
      for (const Term& term : program_.images[image - 1]) {
        spans_[term.image + 1].include(span.first + term.row, span.last + term.row);
      }
    }
    for (Span& span : spans_) {
      if (span.first > span.last) span = {0, -1 - INT_MAX / 2};  // an image that nobody reads
    }
  }

  int count_rows(size_t image, int out_rows) const {
    const Span& span = spans_[image];
    return std::max(0, span.last - span.first + 1 + (out_rows - 1) * program_.stride_down);
  }

  size_t count_elements(int out_rows) const {
    size_t elements = 0;
    for (size_t image = 0; image < spans_.size(); ++image) elements += count_room(image, out_rows);
    return elements;
  }

  // Elements that an image takes: whole vectors, and one more, since the last may reach beyond its end.
  size_t count_room(size_t image, int out_rows) const {
    const size_t lanes = Vector<T>::kLanes;
    return (count_rows(image, out_rows) * line_ + lanes - 1) / lanes * lanes + lanes;
  }

  // The input's rows from `first` on (of the input) with zeros around.
  void copy_input(const T* input, int first, int rows) {
    const ptrdiff_t cols = line_ / size_.channels;
    const ptrdiff_t begin = std::clamp<ptrdiff_t>(size_.left, 0, cols);
    const ptrdiff_t end = std::clamp<ptrdiff_t>(size_.left + size_.cols, begin, cols);
    first += spans_[0].first;
    T* to = images_[0] + spans_[0].first * line_;
    for (int row = first; row < first + rows; ++row, to += line_) {
      if (row < 0 || row >= size_.rows || begin == end) {
        std::fill_n(to, line_, T(0));
        continue;
      }
      const T* from = input + (row * static_cast<ptrdiff_t>(size_.cols) + begin - size_.left) * size_.channels;
      std::fill_n(to, begin * size_.channels, T(0));
      std::copy_n(from, (end - begin) * size_.channels, to + begin * size_.channels);
      std::fill_n(to + end * size_.channels, (cols - end) * size_.channels, T(0));
    }
  }

  // Sums up an image, where all that its terms read is there.
  void add(size_t image, int rows) {
    const std::vector<Term>& terms = program_.images[image - 1];
    int before = 0, after = 0;
    for (const Term& term : terms) {
      before = std::max(before, -term.col);
      after = std::max(after, term.col);
    }
    const ptrdiff_t begin = before * size_.channels, end = rows * line_ - after * size_.channels;
    T* to = images_[image] + spans_[image].first * line_;
    std::vector<const T*> from;
    bool plain = true;
    for (const Term& term : terms) {
      from.push_back(images_[term.image + 1] + (spans_[image].first + term.row) * line_ + term.col * size_.channels);
      plain = plain && term.sign > 0;
    }
    if (plain && from.size() == 2) {
      for (ptrdiff_t i = begin; i < end; ++i) to[i] = from[0][i] + from[1][i];
      return;
    }
    using V = Vector<T>;
    for (ptrdiff_t i = begin; i < end; i += V::kLanes) {
      typename V::Value sum = {};
      for (size_t k = 0; k < from.size(); ++k) {
        const typename V::Value value = V::load(from[k] + i);
        sum = terms[k].sign > 0 ? sum + value : sum - value;
      }
      V::store(to + i, sum);
    }
  }

  const Program& program_;
  const Size& size_;
  ptrdiff_t line_;  // elements of a row
  std::vector<Span> spans_;
  std::vector<T*> images_;  // where row 0 of each would be; the input first
  int rows_;
};

// Some filters, as vectors; the weights of all blocks lie one after the other, (taps, channels, lanes).
struct Filters {
  int first, count, vectors;
  size_t weights;  // where they begin
};

template <typename T>
std::vector<Filters> split_filters(const Program& program, const Size& size) {
  std::vector<Filters> blocks;
  const int lanes = Vector<T>::kLanes;
  const int all = divide_up(size.filters, lanes), count = divide_up(all, kMaxVectors);
  size_t weights = 0;
  for (int block = 0; block < count; ++block) {
    const int begin = all * block / count, end = all * (block + 1) / count;
    const int first = begin * lanes;
    blocks.push_back({first, std::min(size.filters, end * lanes) - first, end - begin, weights});
    weights += program.taps.size() * size.channels * (end - begin) * lanes;
  }
  return blocks;
}

template <typename T>
size_t count_weights(const Program& program, const Size& size) {
  return program.taps.size() * size.channels * divide_up(size.filters, Vector<T>::kLanes) * Vector<T>::kLanes;
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
  const T* const* taps;  // where each reads
  size_t num_taps;
  ptrdiff_t pixel_step;
  int channels;
  const T* weights;
  T* output;
  int filters;  // from pixel to pixel of the output
  int valid;    // filters of the tile; its vectors may have more

  template <int kPixels, int kVectors>
  void run() const {
    using V = Vector<T>;
    typename V::Value sums[kPixels][kVectors] = {};
    const T* weight = weights;
    for (size_t tap = 0; tap < num_taps; ++tap) {
      const T* pixels[kPixels];
      for (int pixel = 0; pixel < kPixels; ++pixel) pixels[pixel] = taps[tap] + pixel * pixel_step;
      for (int channel = 0; channel < channels; ++channel) {
        typename V::Value column[kVectors];
        for (int v = 0; v < kVectors; ++v) column[v] = V::load(weight + v * V::kLanes);
        weight += kVectors * V::kLanes;
        for (int pixel = 0; pixel < kPixels; ++pixel) {
          for (int v = 0; v < kVectors; ++v) sums[pixel][v] += pixels[pixel][channel] * column[v];
        }
      }
    }
    for (int pixel = 0; pixel < kPixels; ++pixel) {
      T* to = output + static_cast<ptrdiff_t>(pixel) * filters;
      if (valid == kVectors * V::kLanes) {
        for (int v = 0; v < kVectors; ++v) V::store(to + v * V::kLanes, sums[pixel][v]);
      } else {
        std::memcpy(to, sums[pixel], valid * sizeof(T));
      }
    }
  }
};

template <typename T>
struct CorrelateTile {
  const T* image;  // the first channel at the first pixel
  ptrdiff_t row_step, pixel_step;
  const T* upstream;
  int lanes;  // from pixel to pixel of it
  int rows, cols;
  T* gradient;  // (channels, vectors): added to

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
    for (int row = 0; row < rows; ++row) {
      const T* left = image + row * row_step;
      for (int col = 0; col < cols; ++col, left += pixel_step, right += lanes) {
        typename V::Value line[kVectors];
        for (int v = 0; v < kVectors; ++v) line[v] = V::load(right + v * V::kLanes);
        for (int channel = 0; channel < kChannels; ++channel) {
          for (int v = 0; v < kVectors; ++v) sums[channel][v] += left[channel] * line[v];
        }
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
template <typename Tile, int kVectors, int kLength>
void run_tile(const Tile& tile, int length) {
  if constexpr (kLength > 0) {
    if (length == kLength) return tile.template run<kLength, kVectors>();
    run_tile<Tile, kVectors, kLength - 1>(tile, length);
  }
}

template <typename Tile>
void run_tile(const Tile& tile, int vectors, int length) {
  switch (vectors) {
    case 1: return run_tile<Tile, 1, tile_size(1)>(tile, length);
    case 2: return run_tile<Tile, 2, tile_size(2)>(tile, length);
    case 3: return run_tile<Tile, 3, tile_size(3)>(tile, length);
    case 4: return run_tile<Tile, 4, tile_size(4)>(tile, length);
  }
}

// Input (batch, rows, cols, channels) and weights (taps, channels, filters) to output (batch, rows, cols, filters).
template <typename T>
void convolve(const Program& program, const Size& size, const T* input, const T* weights, T* output) {
  const std::vector<Filters> filters = split_filters<T>(program, size);
  Buffer<T> packed(count_weights<T>(program, size));
  const ptrdiff_t lines = static_cast<ptrdiff_t>(program.taps.size()) * size.channels;
  for (const Filters& part : filters) {
    const int lanes = part.vectors * Vector<T>::kLanes;
    for (ptrdiff_t line = 0; line < lines; ++line) {
      std::copy_n(weights + line * size.filters + part.first, part.count, packed.data() + part.weights + line * lanes);
    }
  }
  std::atomic<int64_t> next{0};
  Threads::shared().run(program.threads, [&](int) {
    Block<T> block(program, size);
    T* buffer = get_buffer<T>(block.elements());
    std::vector<const T*> taps(program.taps.size());
    for (int64_t item; (item = next++) < size.batch * block.count();) {
      const int64_t number = item / block.count();
      const int first_row = static_cast<int>(item % block.count()) * block.rows();
      block.fill(input, number, first_row, buffer);
      for (int row = first_row; row < std::min(first_row + block.rows(), size.out_rows); ++row) {
        for (size_t tap = 0; tap < taps.size(); ++tap) taps[tap] = block.at(program.taps[tap], row - first_row);
        T* line = output + (number * size.out_rows + row) * size.out_cols * size.filters;
        for (const Filters& part : filters) {
          const int count = divide_up(size.out_cols, tile_size(part.vectors));
          std::vector<const T*> reads = taps;
          for (int tile = 0, begin = 0; tile < count; ++tile) {
            const int end = static_cast<int>(static_cast<int64_t>(size.out_cols) * (tile + 1) / count);
            run_tile(ConvolveTile<T>{reads.data(), reads.size(), block.pixel_step(), size.channels,
                                     packed.data() + part.weights,
                                     line + static_cast<ptrdiff_t>(begin) * size.filters + part.first, size.filters,
                                     part.count},
                     part.vectors, end - begin);
            for (const T*& read : reads) read += (end - begin) * block.pixel_step();
            begin = end;
          }
        }
      }
    }
  });
}

// Input and the output's gradient to that of the weights. Each thread sums up its own part of the batch, always the
// same one, so that the result is the same to the last bit for the same number of threads.
template <typename T>
void correlate(const Program& program, const Size& size, const T* input, const T* upstream, T* gradient) {
  const std::vector<Filters> filters = split_filters<T>(program, size);
  const size_t count = count_weights<T>(program, size);
  Buffer<T> sums(count * program.threads);
  Threads::shared().run(program.threads, [&](int thread) {
    Block<T> block(program, size);
    const int64_t items = size.batch * block.count();
    const int padded = divide_up(size.filters, Vector<T>::kLanes) * Vector<T>::kLanes;
    const bool aligned = padded == size.filters;
    const size_t copied = aligned ? 0 : static_cast<size_t>(block.rows()) * size.out_cols * padded;
    T* buffer = get_buffer<T>(block.elements() + copied);
    T* copy = buffer + block.elements();
    std::fill_n(copy, copied, T(0));
    for (int64_t item = items * thread / program.threads; item < items * (thread + 1) / program.threads; ++item) {
      const int64_t number = item / block.count();
      const int first_row = static_cast<int>(item % block.count()) * block.rows();
      const int rows = std::min(block.rows(), size.out_rows - first_row);
      block.fill(input, number, first_row, buffer);
      const T* right = upstream + (number * size.out_rows + first_row) * size.out_cols * size.filters;
      if (!aligned) {  // zeros where vectors reach beyond the filters
        for (ptrdiff_t pixel = 0; pixel < static_cast<ptrdiff_t>(rows) * size.out_cols; ++pixel) {
          std::copy_n(right + pixel * size.filters, size.filters, copy + pixel * padded);
        }
        right = copy;
      }
      for (const Filters& part : filters) {
        T* sum = sums.data() + thread * count + part.weights;
        const int tiles = divide_up(size.channels, tile_size(part.vectors));
        for (const Tap& tap : program.taps) {
          for (int tile = 0, begin = 0; tile < tiles; ++tile) {
            const int end = size.channels * (tile + 1) / tiles;
            run_tile(CorrelateTile<T>{block.at(tap, 0) + begin, block.row_step(), block.pixel_step(),
                                      right + part.first, padded, rows, size.out_cols, sum},
                     part.vectors, end - begin);
            sum += static_cast<ptrdiff_t>(end - begin) * part.vectors * Vector<T>::kLanes;
            begin = end;
          }
        }
      }
    }
  });
  const ptrdiff_t lines = static_cast<ptrdiff_t>(program.taps.size()) * size.channels;
  for (const Filters& part : filters) {
    for (ptrdiff_t line = 0; line < lines; ++line) {
      for (int filter = 0; filter < part.count; ++filter) {
        T sum = 0;
        for (int thread = 0; thread < program.threads; ++thread) {
          sum += sums[thread * count + part.weights + line * part.vectors * Vector<T>::kLanes + filter];
        }
        gradient[line * size.filters + part.first + filter] = sum;
      }
    }
  }
}

}  // namespace tiedexp
