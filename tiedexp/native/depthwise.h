// The tied convolution of groups of one channel and one filter, and its gradient for the weights.
//
// Vectors run over the channels. A tile is one vector of channels and several taps, through the pixels at hand: the
// weights of the taps, or the sums of their gradients, stay in registers.
#pragma once

#include "convolution.h"

namespace tiedexp {

// The last vector of channels may have fewer.
template <typename T>
typename Vector<T>::Value load_some(const T* from, int valid) {
  if (valid >= Vector<T>::kLanes) return Vector<T>::load(from);
  T line[Vector<T>::kLanes] = {};
  std::copy_n(from, valid, line);
  return Vector<T>::load(line);
}

template <typename T>
void store_some(T* to, typename Vector<T>::Value value, int valid) {
  if (valid >= Vector<T>::kLanes) return Vector<T>::store(to, value);
  T line[Vector<T>::kLanes];
  Vector<T>::store(line, value);
  std::copy_n(line, valid, to);
}

// Where a tile reads and writes: a vector of channels of some pixels.
template <typename T>
struct DepthwiseTile {
  const std::vector<const T*>& taps;  // where each reads
  size_t first_tap;
  int channel;               // the first of the vector, in the portion
  const ptrdiff_t* offsets;  // of the pixels
  int64_t pixels;
  ptrdiff_t channels;        // from pixel to pixel of what is not in the portion
  int valid;                 // channels of the vector

  template <int kTaps>
  void convolve(const T* weights, T* output) const {
    typename Vector<T>::Value lines[kTaps];
    const T* reads[kTaps];
    for (int tap = 0; tap < kTaps; ++tap) {
      lines[tap] = load_some(weights + (first_tap + tap) * channels, valid);
      reads[tap] = taps[first_tap + tap] + channel;
    }
    for (int64_t pixel = 0; pixel < pixels; ++pixel, output += channels) {
      const ptrdiff_t offset = offsets[pixel];
      typename Vector<T>::Value sum = {};
      if (first_tap > 0) sum = load_some(output, valid);
      for (int tap = 0; tap < kTaps; ++tap) sum += Vector<T>::load(reads[tap] + offset) * lines[tap];
      store_some(output, sum, valid);
    }
  }

  template <int kTaps>
  void correlate(const T* upstream, T* gradient) const {
    typename Vector<T>::Value sums[kTaps];
    const T* reads[kTaps];
    for (int tap = 0; tap < kTaps; ++tap) {
      sums[tap] = load_some(gradient + (first_tap + tap) * channels, valid);
      reads[tap] = taps[first_tap + tap] + channel;
    }
    for (int64_t pixel = 0; pixel < pixels; ++pixel, upstream += channels) {
      const typename Vector<T>::Value line = load_some(upstream, valid);
      for (int tap = 0; tap < kTaps; ++tap) sums[tap] += Vector<T>::load(reads[tap] + offsets[pixel]) * line;
    }
    for (int tap = 0; tap < kTaps; ++tap) {
      store_some(gradient + (first_tap + tap) * channels, sums[tap], valid);
    }
  }
};

template <typename T>
struct ConvolveDepthwise : DepthwiseTile<T> {
  const T* weights;
  T* output;
  template <int kTaps, int>
  void run() const { this->template convolve<kTaps>(weights, output); }
};

template <typename T>
struct CorrelateDepthwise : DepthwiseTile<T> {
  const T* upstream;
  T* gradient;
  template <int kTaps, int>
  void run() const { this->template correlate<kTaps>(upstream, gradient); }
};

// The size with all channels in one group, as their sum images are made.
inline Size join_groups(const Size& size) {
  Size joined = size;
  std::swap(joined.groups, joined.channels);
  joined.filters = joined.channels;
  return joined;
}

// Runs make(tile, channel) for the tiles of a block, of channels from `first` on.
template <typename T, typename Make>
void visit_depthwise(Block<T>& block, const Program& program, const Size& size, const T* input, int64_t number,
                     int first, T* buffer, Make make) {
  block.fill(input, number, first, buffer);
  std::vector<const T*> taps;
  for (const Tap& tap : program.taps) taps.push_back(block.at(tap));
  for (int channel = 0; channel < block.channels(); channel += Vector<T>::kLanes) {
    const int valid = std::min(Vector<T>::kLanes, block.channels() - channel);
    run_tiles(1, taps.size(), [&](int64_t tap) {
      return make(DepthwiseTile<T>{taps, static_cast<size_t>(tap), channel, block.offsets(),
                                   block.count_pixels(number), size.channels, valid},
                  first + channel);
    });
  }
}

// Input (batch, rows, cols, channels) and weights (taps, channels) to output (batch, rows, cols, channels).
template <typename T>
void convolve_depthwise(const Program& program, const Size& groups, const T* input, const T* weights, T* output) {
  if (is_empty(groups)) return;
  const Size size = join_groups(groups);
  const Block<T> plan(program, size);
  const int parts = size.channels / plan.channels();
  std::atomic<int64_t> next{0};
  Threads::shared().run(program.threads, [&](int) {
    Block<T> block = plan;
    T* buffer = get_buffer<T>(block.elements());
    for (int64_t item; (item = next++) < block.count() * parts;) {
      const int64_t number = item / parts;
      T* to = output + block.first_pixel(number) * size.channels;
      visit_depthwise<T>(block, program, size, input, number, item % parts * block.channels(), buffer,
                         [&](const DepthwiseTile<T>& tile, int channel) {
                           return ConvolveDepthwise<T>{tile, weights + channel, to + channel};
                         });
    }
  });
}

// Input and the output's gradient to that of the weights; in each thread of the same part, as in `correlate`.
template <typename T>
void correlate_depthwise(const Program& program, const Size& groups, const T* input, const T* upstream, T* gradient) {
  const Size size = join_groups(groups);
  const size_t count = program.taps.size() * size.channels;
  if (is_empty(size)) {
    std::fill_n(gradient, count, T(0));
    return;
  }
  const Block<T> plan(program, size);
  const int parts = size.channels / plan.channels();
  Buffer<T> sums(count * program.threads);
  Threads::shared().run(program.threads, [&](int thread) {
    Block<T> block = plan;
    T* buffer = get_buffer<T>(block.elements());
    const int64_t items = block.count() * parts;
    for (int64_t item = items * thread / program.threads; item < items * (thread + 1) / program.threads; ++item) {
      const int64_t number = item / parts;
      const T* from = upstream + block.first_pixel(number) * size.channels;
      visit_depthwise<T>(block, program, size, input, number, item % parts * block.channels(), buffer,
                         [&](const DepthwiseTile<T>& tile, int channel) {
                           return CorrelateDepthwise<T>{tile, from + channel, sums.data() + thread * count + channel};
                         });
    }
  });
  for (size_t weight = 0; weight < count; ++weight) {
    T sum = 0;
    for (int thread = 0; thread < program.threads; ++thread) sum += sums[thread * count + weight];
    gradient[weight] = sum;
  }
}

}  // namespace tiedexp
