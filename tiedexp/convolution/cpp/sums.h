// The sums of a part of the input, made in the cache.
//
// The output is computed a few rows at a time (a few images, if they are small). For these the input is copied with its
// padding into a buffer of the thread, and each sum is made there, by adding shifted lists of pixels: in a list without
// gaps, a shift by rows and columns is a shift by a number of pixels. What wraps around at the end of a row is never read.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace tiedexp {

// Registers of the processor: their bytes, how many of them a tile may use for its sums, and how many for vectors of
// filters, so that one more is left.
#if defined(__AVX512F__)
constexpr int kBytes = 64, kSums = 24, kMaxVectors = 4;
#elif defined(__AVX__)
constexpr int kBytes = 32, kSums = 12, kMaxVectors = 2;
#elif defined(__aarch64__)
constexpr int kBytes = 16, kSums = 24, kMaxVectors = 4;
#else
constexpr int kBytes = 16, kSums = 12, kMaxVectors = 2;
#endif
// Pixels of a tile, or channels, for so many vectors in the other direction.
constexpr int tile_size(int vectors) { return vectors == 1 ? kSums / 2 : kSums / vectors; }
// What is computed at a time: the input and sums that fit into kBufferBytes of the second-level cache, for kPixels pixels
// if possible. Channels are divided before pixels, but not into fewer than kMinChannels.
constexpr size_t kBufferBytes = 384 * 1024;
constexpr int kPixels = 96, kMinChannels = 16;

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
  // Leaves new elements as they are: the threads that use them write them first.
  void construct(T*) {}
  friend bool operator==(const Aligned&, const Aligned&) { return true; }
  friend bool operator!=(const Aligned&, const Aligned&) { return false; }
};
template <typename T>
using Buffer = std::vector<T, Aligned<T>>;

// One term of a sum: an earlier sum (-1: the input), read this many pixels further down and to the right.
struct Term {
  int source, row, col, sign;
};

struct Tap {
  int source, row, col;  // a sum (-1: the input), and where it is read
};

// A factoring; rows and columns are pixels, dilation included.
struct Program {
  std::vector<std::vector<Term>> sums;
  std::vector<Tap> taps;
  int rows, cols;  // what the kernel covers
  int stride_down, stride_across;
  int groups;  // of channels
  int threads;
};

struct Size {
  int64_t batch;
  int groups;                       // of channels: filters of a group see its channels alone
  int rows, cols, channels;         // of the input; the channels of one group
  int out_rows, out_cols, filters;  // of the output; the filters of one group
  int above, left;                  // zeros around the input; negative where its first rows and columns are not read

  // From pixel to pixel of input and output.
  ptrdiff_t all_channels() const { return static_cast<ptrdiff_t>(groups) * channels; }
  ptrdiff_t all_filters() const { return static_cast<ptrdiff_t>(groups) * filters; }
};

constexpr int64_t divide_up(int64_t number, int64_t by) { return (number + by - 1) / by; }

struct Range {
  int64_t begin, end;
};

// One of `parts` nearly equal parts of `count` things.
constexpr Range find_part(int64_t count, int64_t parts, int64_t number) {
  return {count * number / parts, count * (number + 1) / parts};
}

inline bool is_empty(const Size& size) { return size.batch == 0 || size.out_rows == 0 || size.out_cols == 0; }

// How much of a convolution is computed at a time: some rows of an image, or several small images, and some channels.
struct Portion {
  int images, rows, channels;
};

// Rows of the kernel at which a sum or the input is read, first to last.
struct Span {
  int first = 0, last = 0;
  bool is_read = false;
  void include(int from, int to) {
    first = is_read ? std::min(first, from) : from;
    last = is_read ? std::max(last, to) : to;
    is_read = true;
  }
};

// The blocks in which a convolution is computed, a portion each.
template <typename T>
class Blocks {
 public:
  Blocks(const Program& program, const Size& size) : program_(&program), size_(&size) {
    find_spans();
    choose_portion();
  }

  // The same in smaller blocks, so that there are at least `count` where rows and images can be divided so often.
  // Channels stay together, so that sums over them are made in the same order.
  Blocks divide(int64_t count) const {
    Blocks smaller = *this;
    if (smaller.count() >= count) return smaller;
    smaller.portion_.images = static_cast<int>(std::max<int64_t>(1, size_->batch / count));
    const int64_t wanted = divide_up(count, size_->batch);  // blocks of an image
    smaller.portion_.rows = static_cast<int>(std::clamp<int64_t>(size_->out_rows / wanted, 1, portion_.rows));
    return smaller;
  }

  // Makes portions of half as many channels, if they are enough then.
  bool halve_channels() {
    if (portion_.channels % 2 || portion_.channels / 2 < kMinChannels) return false;
    portion_.channels /= 2;
    return true;
  }

  const Portion& portion() const { return portion_; }
  int channels() const { return portion_.channels; }
  // Elements of the input and sums of a portion, for one image of the batch and for all.
  size_t elements_of_image() const { return count_elements(portion_.rows); }
  size_t elements() const { return elements_of_image() * portion_.images; }
  int64_t pixels() const { return static_cast<int64_t>(portion_.images) * portion_.rows * size_->out_cols; }

  // Blocks of the whole batch: each is a run of the output's rows, of one image if it has less than all of them.
  int64_t count() const { return divide_up(size_->batch, portion_.images) * blocks_in_image(); }
  int64_t first_image(int64_t block) const { return block / blocks_in_image() * portion_.images; }
  int first_row(int64_t block) const { return static_cast<int>(block % blocks_in_image()) * portion_.rows; }
  int count_images(int64_t block) const {
    return static_cast<int>(std::min<int64_t>(portion_.images, size_->batch - first_image(block)));
  }
  int count_out_rows(int64_t block) const { return std::min(portion_.rows, size_->out_rows - first_row(block)); }
  // Pixels of a block: the last ones have fewer.
  int64_t count_pixels(int64_t block) const {
    return static_cast<int64_t>(count_images(block)) * count_out_rows(block) * size_->out_cols;
  }
  // Where the first one is in a tensor like the output.
  int64_t first_pixel(int64_t block) const {
    return (first_image(block) * size_->out_rows + first_row(block)) * size_->out_cols;
  }

 protected:
  // Elements of a row of a sum.
  ptrdiff_t line() const {
    return ((size_->out_cols - 1) * program_->stride_across + program_->cols) * static_cast<ptrdiff_t>(portion_.channels);
  }

  int count_rows(size_t source, int out_rows) const {
    const Span& span = spans_[source];
    return span.is_read ? span.last - span.first + 1 + (out_rows - 1) * program_->stride_down : 0;
  }

  // Whole vectors, and one more, since the last vector may reach beyond the end of the sum.
  size_t count_room(size_t source, int out_rows) const {
    const size_t lanes = Vector<T>::kLanes;
    return (count_rows(source, out_rows) * line() + lanes - 1) / lanes * lanes + lanes;
  }

  const Program* program_;
  const Size* size_;
  Portion portion_;
  std::vector<Span> spans_;  // of the input, and then of the sums

 private:
  int64_t blocks_in_image() const { return divide_up(size_->out_rows, portion_.rows); }

  size_t count_elements(int out_rows) const {
    size_t elements = 0;
    for (size_t source = 0; source < spans_.size(); ++source) elements += count_room(source, out_rows);
    return elements;
  }

  void find_spans() {
    spans_.resize(program_->sums.size() + 1);
    spans_[0].include(0, 0);
    for (const Tap& tap : program_->taps) spans_[tap.source + 1].include(tap.row, tap.row);
    for (size_t source = program_->sums.size(); source > 0; --source) {
      const Span span = spans_[source];
      if (!span.is_read) continue;
      for (const Term& term : program_->sums[source - 1]) {
        spans_[term.source + 1].include(span.first + term.row, span.last + term.row);
      }
    }
  }

  // As few parts of the channels as leave room for enough pixels: weights are read once a block.
  void choose_portion() {
    for (int parts = 1; parts <= size_->channels; ++parts) {
      if (size_->channels % parts) continue;
      if (parts > 1 && size_->channels / parts < kMinChannels) break;
      portion_ = {1, 1, size_->channels / parts};
      portion_.rows = find_most_rows();
      if (portion_.rows == size_->out_rows) {
        const size_t bytes = count_elements(portion_.rows) * sizeof(T);
        const int64_t pixels = static_cast<int64_t>(size_->out_rows) * size_->out_cols;
        const int64_t wanted = std::min(size_->batch, divide_up(kPixels, pixels));
        portion_.images = static_cast<int>(std::clamp<int64_t>(kBufferBytes / bytes, 1, std::max<int64_t>(1, wanted)));
        if (portion_.images == wanted) break;
      } else if (static_cast<int64_t>(portion_.rows) * size_->out_cols >= kPixels) {
        break;
      }
    }
    // Blocks of nearly equal size.
    portion_.rows = static_cast<int>(divide_up(size_->out_rows, divide_up(size_->out_rows, portion_.rows)));
  }

  // Rows of the output whose input and sums fit into the cache, at least one.
  int find_most_rows() const {
    int low = 1, high = size_->out_rows;
    while (low < high) {
      const int middle = low + (high - low + 1) / 2;
      if (count_elements(middle) * sizeof(T) <= kBufferBytes) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }
};

// The sums of one block at a time.
template <typename T>
class Block : public Blocks<T> {
 public:
  explicit Block(const Blocks<T>& blocks) : Blocks<T>(blocks), elements_(this->elements_of_image()) {
    sources_.resize(spans_.size());
    offsets_.reserve(this->pixels());
    for (int64_t image = 0; image < portion_.images; ++image) {
      for (int row = 0; row < portion_.rows; ++row) {
        const ptrdiff_t begin = image * elements_ + row * program_->stride_down * line();
        for (int col = 0; col < size_->out_cols; ++col) {
          offsets_.push_back(begin + col * static_cast<ptrdiff_t>(program_->stride_across) * portion_.channels);
        }
      }
    }
  }

  // Of each pixel of the output, row by row and image by image, relative to where a tap reads for the first one.
  const ptrdiff_t* offsets() const { return offsets_.data(); }

  // Makes the sums of a block in a buffer, for a portion of the channels that begins at `first_channel`.
  void fill(const T* input, int64_t block, int first_channel, T* buffer) {
    const int64_t first = this->first_image(block);
    const int out_rows = this->count_out_rows(block);
    for (int64_t number = this->count_images(block) - 1; number >= 0; --number) {  // `at` is for the first
      place(buffer + number * elements_);
      copy_input(input + (first + number) * size_->rows * size_->cols * size_->all_channels() + first_channel,
                 this->first_row(block) * program_->stride_down - size_->above, count_rows(0, out_rows));
      for (size_t source = 1; source < spans_.size(); ++source) {
        if (count_rows(source, out_rows) > 0) add(source, count_rows(source, out_rows));
      }
    }
  }

  // Where a tap reads for the first pixel.
  const T* at(const Tap& tap) const {
    return sources_[tap.source + 1] + tap.row * line() + tap.col * static_cast<ptrdiff_t>(portion_.channels);
  }

 private:
  using Blocks<T>::program_;
  using Blocks<T>::size_;
  using Blocks<T>::portion_;
  using Blocks<T>::spans_;
  using Blocks<T>::line;
  using Blocks<T>::count_rows;

  void place(T* buffer) {
    for (size_t source = 0; source < spans_.size(); ++source) {
      sources_[source] = buffer - spans_[source].first * line();
      buffer += this->count_room(source, portion_.rows);
    }
  }

  // The input's rows from `first` on (of the input) with zeros around.
  void copy_input(const T* input, int first, int rows) {
    const ptrdiff_t channels = portion_.channels, cols = line() / channels;
    const ptrdiff_t begin = std::clamp<ptrdiff_t>(size_->left, 0, cols);
    const ptrdiff_t end = std::clamp<ptrdiff_t>(size_->left + size_->cols, begin, cols);
    first += spans_[0].first;
    T* to = sources_[0] + spans_[0].first * line();
    for (int row = first; row < first + rows; ++row, to += line()) {
      if (row < 0 || row >= size_->rows || begin == end) {
        std::fill_n(to, line(), T(0));
        continue;
      }
      const T* from = input + (row * static_cast<ptrdiff_t>(size_->cols) + begin - size_->left) * size_->all_channels();
      std::fill_n(to, begin * channels, T(0));
      if (channels == size_->all_channels()) {
        std::copy_n(from, (end - begin) * channels, to + begin * channels);
      } else {
        for (ptrdiff_t col = begin; col < end; ++col, from += size_->all_channels()) {
          std::copy_n(from, channels, to + col * channels);
        }
      }
      std::fill_n(to + end * channels, (cols - end) * channels, T(0));
    }
  }

  // Adds up a sum, whose terms read only what is made before.
  void add(size_t source, int rows) {
    const std::vector<Term>& terms = program_->sums[source - 1];
    const ptrdiff_t channels = portion_.channels;
    int before = 0, after = 0;
    bool plain = true;
    from_.clear();
    for (const Term& term : terms) {
      before = std::max(before, -term.col);
      after = std::max(after, term.col);
      plain = plain && term.sign > 0;
      from_.push_back(sources_[term.source + 1] + (spans_[source].first + term.row) * line() + term.col * channels);
    }
    const ptrdiff_t begin = before * channels, end = rows * line() - after * channels;
    T* to = sources_[source] + spans_[source].first * line();
    if (plain && terms.size() == 2) {
      const T *one = from_[0], *other = from_[1];
      for (ptrdiff_t i = begin; i < end; ++i) to[i] = one[i] + other[i];
      return;
    }
    const ptrdiff_t left = add_vectors<4>(terms, to, begin, end);
    add_vectors<1>(terms, to, left, end + Vector<T>::kLanes - 1);
  }

  // As many vectors at a time as fit before the end; returns where it stopped.
  template <int kVectors>
  ptrdiff_t add_vectors(const std::vector<Term>& terms, T* to, ptrdiff_t begin, ptrdiff_t end) const {
    using V = Vector<T>;
    ptrdiff_t i = begin;
    for (; i + kVectors * V::kLanes <= end; i += kVectors * V::kLanes) {
      typename V::Value sums[kVectors] = {};
      for (size_t k = 0; k < terms.size(); ++k) {
        const T* from = from_[k] + i;
        for (int v = 0; v < kVectors; ++v) {
          const typename V::Value value = V::load(from + v * V::kLanes);
          sums[v] = terms[k].sign > 0 ? sums[v] + value : sums[v] - value;
        }
      }
      for (int v = 0; v < kVectors; ++v) V::store(to + i + v * V::kLanes, sums[v]);
    }
    return i;
  }

  size_t elements_;  // of the input and sums of one image of the batch
  std::vector<ptrdiff_t> offsets_;
  std::vector<T*> sources_;  // where row 0 of the input, and then of each sum, would be
  std::vector<const T*> from_;
};

}  // namespace tiedexp
