// The tied convolution of groups of one channel and one filter, and its gradient for the weights.
//
// Vectors run over the channels. A tile is one vector of channels and several taps, through the pixels at hand: the
// weights of the taps, or the totals of their gradients, stay in registers.
#pragma once

#include "convolution.h"

namespace tiedexp {

// The last vector of channels may have fewer. That it is not full is known when the code is compiled, because Clang
// otherwise asks for every pixel.
template <typename T, bool kFull>
typename Vector<T>::Value load_some(const T* from, int valid) {
  if constexpr (kFull) return Vector<T>::load(from);
  T line[Vector<T>::kLanes] = {};
  std::copy_n(from, valid, line);
  return Vector<T>::load(line);
}

template <typename T, bool kFull>
void store_some(T* to, typename Vector<T>::Value value, int valid) {
  if constexpr (kFull) return Vector<T>::store(to, value);
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
    if (valid < Vector<T>::kLanes) return first_tap > 0 ? add<kTaps, false, true>(weights, output)
                                                        : add<kTaps, false, false>(weights, output);
    return first_tap > 0 ? add<kTaps, true, true>(weights, output) : add<kTaps, true, false>(weights, output);
  }

  template <int kTaps, bool kFull, bool kAccumulate>
  [[gnu::noinline]] void add(const T* weights, T* output) const {
    typename Vector<T>::Value lines[kTaps];
    const T* reads[kTaps];
    for (int tap = 0; tap < kTaps; ++tap) {
      lines[tap] = load_some<T, kFull>(weights + (first_tap + tap) * channels, valid);
      reads[tap] = taps[first_tap + tap] + channel;
    }
    // Copies, since writing the output might change members.
    const ptrdiff_t step = channels, *const end = offsets + pixels;
    for (const ptrdiff_t* offset = offsets; offset < end; ++offset, output += step) {
      typename Vector<T>::Value total = {};
      if constexpr (kAccumulate) total = load_some<T, kFull>(output, valid);
      for (int tap = 0; tap < kTaps; ++tap) total += Vector<T>::load(reads[tap] + *offset) * lines[tap];
      store_some<T, kFull>(output, total, valid);
    }
  }

  template <int kTaps>
  void correlate(const T* upstream, T* gradient) const {
    return valid < Vector<T>::kLanes ? add_gradient<kTaps, false>(upstream, gradient)
                                     : add_gradient<kTaps, true>(upstream, gradient);
  }

  template <int kTaps, bool kFull>
  [[gnu::noinline]] void add_gradient(const T* upstream, T* gradient) const {
    const T* reads[kTaps];
    for (int tap = 0; tap < kTaps; ++tap) reads[tap] = taps[first_tap + tap] + channel;
    for (int64_t begin = 0; begin < pixels; begin += kStretch) {
      typename Vector<T>::Value totals[kTaps] = {};
      const int64_t end = std::min(pixels, begin + kStretch);
      for (int64_t pixel = begin; pixel < end; ++pixel, upstream += channels) {
        const typename Vector<T>::Value line = load_some<T, kFull>(upstream, valid);
        for (int tap = 0; tap < kTaps; ++tap) totals[tap] += Vector<T>::load(reads[tap] + offsets[pixel]) * line;
      }
      for (int tap = 0; tap < kTaps; ++tap) {
        T* to = gradient + (first_tap + tap) * channels;
        store_some<T, kFull>(to, load_some<T, kFull>(to, valid) + totals[tap], valid);
      }
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

// The size with all channels in one group, because their sums are made together.
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
    run_tiles<1>(1, taps.size(), [&](int64_t tap) {
      return make(DepthwiseTile<T>{taps, static_cast<size_t>(tap), channel, block.offsets(),
                                   block.count_pixels(number), size.channels, valid},
                  first + channel);
    });
  }
}

// A multiply-add takes this many times as long as in `convolve`, because it waits for memory.
constexpr double kDepthwiseCost = 8;

// The axes of the work: an input is a portion of the channels.
template <typename T>
Axes find_depthwise_axes(const Program& program, const Size& size, const Blocks<T>& blocks) {
  return {size.channels / blocks.channels(), 1, 1, kDepthwiseCost * program.taps.size() * blocks.channels()};
}

// Input (batch, rows, cols, channels) and weights (taps, channels) to output (batch, rows, cols, channels).
template <typename T>
void convolve_depthwise(const Program& program, const Size& groups, const T* input, const T* weights, T* output) {
  if (is_empty(groups)) return;
  const Size size = join_groups(groups);
  const Blocks<T> whole(program, size);
  const Division<T> work = divide_output(whole, find_depthwise_axes(program, size, whole), program.threads);
  std::atomic<int64_t> next{0};
  Threads::shared().run(work.threads, [&](int) {
    Block<T> block(work.blocks);
    T* buffer = get_buffer<T>(block.elements());
    for (int64_t item; (item = next++) < work.count();) {
      const int64_t number = item / work.inputs;
      T* to = output + block.first_pixel(number) * size.channels;
      visit_depthwise<T>(block, program, size, input, number, item % work.inputs * block.channels(), buffer,
                         [&](const DepthwiseTile<T>& tile, int channel) {
                           return ConvolveDepthwise<T>{tile, weights + channel, to + channel};
                         });
    }
  });
}

// Input and the output's gradient to the gradient of the weights; each thread always adds up the same part, see `correlate`.
template <typename T>
void correlate_depthwise(const Program& program, const Size& groups, const T* input, const T* upstream, T* gradient) {
  const Size size = join_groups(groups);
  const int64_t taps = static_cast<int64_t>(program.taps.size()), count = taps * size.channels;
  if (is_empty(size)) {
    std::fill_n(gradient, count, T(0));
    return;
  }
  const Blocks<T> whole(program, size);
  const Axes axes = find_depthwise_axes(program, size, whole);
  const Division<T> work = divide_gradient(whole, axes, program.threads);
  Copies<T> copies(count, work);
  Threads::shared().run(work.threads, [&](int item) {
    Block<T> block(work.blocks);
    T* buffer = get_buffer<T>(block.elements());
    const int64_t slice = item / work.inputs;
    const Range numbers = find_part(block.count(), work.slices, slice);
    const Range inputs = find_part(axes.inputs, work.inputs, item % work.inputs);
    const int64_t first = inputs.begin * block.channels(), end = inputs.end * block.channels();
    for (int64_t number = numbers.begin; number < numbers.end; ++number) {
      for (int64_t at = first; at < count; at += size.channels) {  // for each tap
        if (number == numbers.begin) copies.clear(slice, at, end - first);
        if (copies.is_due(number - numbers.begin)) copies.put_aside(slice, at, end - first);
      }
      const T* from = upstream + block.first_pixel(number) * size.channels;
      for (int64_t channel = first; channel < end; channel += block.channels()) {
        visit_depthwise<T>(block, program, size, input, number, static_cast<int>(channel), buffer,
                           [&](const DepthwiseTile<T>& tile, int channel) {
                             return CorrelateDepthwise<T>{tile, from + channel, copies.at(slice) + channel};
                           });
      }
    }
  });
  share(count, static_cast<double>(copies.size()), program.threads, [&](int64_t begin, int64_t end) {
    copies.add_up(begin, end - begin, gradient + begin);
  });
}

}  // namespace tiedexp
