// How the work of a convolution is divided among threads, by an estimate of the work of the slowest thread.
//
// The work has three axes: blocks of pixels, inputs (a group of channels, or a portion of them, whose sums a thread makes)
// and vectors of filters. If the filters are divided, several threads make the same sums. If the blocks are made smaller,
// the weights are read more often. And each slice of the blocks needs a copy of the gradient, which is set to zero first
// and added to the others in the end.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

#include "sums.h"
#include "threads.h"

namespace tiedexp {

// Costs in multiply-adds.
constexpr double kElementCost = 16;     // of an element of the input and sums of a block
constexpr double kWeightCost = 8;       // of reading a weight, or adding to its gradient, once a block
constexpr double kCopyCost = 64;        // of a weight in a copy of the gradient
constexpr double kSingleCost = 1.2;     // of a multiply-add in a tile of one vector
constexpr double kThreadCost = 32'768;  // less than this is not worth a thread
// Of the simplest division, so that another is taken only if it is clearly better.
constexpr double kGain = 0.97;
// With more items per thread than this, blocks are not made smaller to give all threads equally many.
constexpr int kItems = 8;

// The axes of the work beside the blocks.
struct Axes {
  int64_t inputs, vectors;  // of filters
  double elements;          // of the sums that an input needs, as a multiple of a block's
  double weights;           // of an input and a vector, in multiply-adds a pixel
};

template <typename T>
struct Division {
  Blocks<T> blocks;
  int64_t slices;  // of the blocks
  int64_t inputs, filters;  // parts in which these are divided
  int threads;
  double cost;  // of the slowest thread

  int64_t count() const { return slices * inputs * filters; }
};

// Into how many parts, of at most kMaxVectors each, the vectors of filters in each of the divisions are split.
inline int64_t count_parts(int64_t vectors, int64_t divisions) {
  return divide_up(divide_up(vectors, kMaxVectors), divisions);
}

// The cost of `count` blocks, for some inputs and one of the divisions of the vectors.
template <typename T>
double estimate_cost(const Blocks<T>& blocks, const Axes& axes, int64_t count, int64_t inputs, int64_t divisions) {
  const int64_t parts = count_parts(axes.vectors, divisions), vectors = divide_up(axes.vectors, parts * divisions);
  const double sums = kElementCost * axes.elements * static_cast<double>(blocks.elements());
  const double products = axes.weights * parts * (vectors == 1 ? kSingleCost : static_cast<double>(vectors));
  return static_cast<double>(count) * inputs * (sums + products * (static_cast<double>(blocks.pixels()) + kWeightCost));
}

// As many threads as there is work for.
inline int count_threads(double cost, int most) {
  return static_cast<int>(std::clamp(cost / kThreadCost, 1.0, static_cast<double>(most)));
}

// Divides the work on the output: each block of each input is an item (a slice is a block), which threads take one
// after the other.
template <typename T>
Division<T> divide_output(const Blocks<T>& whole, const Axes& axes, int most_threads) {
  const int threads = count_threads(estimate_cost(whole, axes, whole.count(), axes.inputs, 1), most_threads);
  const auto estimate = [&](const Blocks<T>& blocks, int64_t divisions) {
    return estimate_cost(blocks, axes, divide_up(blocks.count() * axes.inputs * divisions, threads), 1, divisions);
  };
  Division<T> best{whole, whole.count(), axes.inputs, 1, threads, estimate(whole, 1) * kGain};
  if (threads == 1 || best.count() >= kItems * threads) return best;
  for (int64_t filters = 1; filters <= std::min<int64_t>(axes.vectors, threads); ++filters) {
    for (int rounds = 1; rounds <= kItems / 2; rounds *= 2) {
      const Blocks<T> blocks = whole.divide(divide_up(rounds * threads, axes.inputs * filters));
      const double cost = estimate(blocks, filters);
      if (cost < best.cost) best = {blocks, blocks.count(), axes.inputs, filters, threads, cost};
    }
  }
  best.threads = static_cast<int>(std::min<int64_t>(threads, best.count()));
  return best;
}

// Divides the work on the gradient: each thread has one item, some inputs and filters of a slice of the blocks, which
// depends on the number of threads alone, so that the result is always the same to the last bit.
template <typename T>
Division<T> divide_gradient(const Blocks<T>& whole, const Axes& axes, int most_threads) {
  const double all = estimate_cost(whole, axes, whole.count(), axes.inputs, 1);
  const int threads = count_threads(all, most_threads);
  Division<T> best{whole, 1, 1, 1, 1, all};
  for (int pieces = 1; pieces <= threads; ++pieces) {  // of a slice
    const int64_t most_slices = threads / pieces;
    if (pieces > 1 && threads / (pieces - 1) == most_slices) continue;  // as many slices of fewer pieces were tried
    for (int rounds = 1; rounds == 1 || (rounds <= kItems / 2 && whole.count() < rounds * most_slices); rounds *= 2) {
      const Blocks<T> blocks = whole.divide(rounds * most_slices);
      const int64_t slices = std::min(most_slices, blocks.count()), each = threads / most_slices;
      for (int64_t inputs = 1; inputs <= std::min(axes.inputs, each); ++inputs) {
        const int64_t filters = std::min(axes.vectors, each / inputs);
        const double copies = kCopyCost * axes.weights * axes.inputs * axes.vectors * slices / threads;
        const double work = estimate_cost(blocks, axes, divide_up(blocks.count(), slices),
                                          divide_up(axes.inputs, inputs), filters);
        const double cost = (copies + work) * (pieces == 1 && rounds == 1 ? kGain : 1);
        const int used = static_cast<int>(slices * inputs * filters);
        if (cost < best.cost) best = {blocks, slices, inputs, filters, used, cost};
      }
    }
  }
  return best;
}

// The convolution: an input is a group.
template <typename T>
Division<T> divide_convolution(const Program& program, const Size& size) {
  const Blocks<T> whole(program, size);
  const double portions = size.channels / whole.channels();
  const double weights = static_cast<double>(program.taps.size()) * size.channels * Vector<T>::kLanes;
  return divide_output(whole, {size.groups, divide_up(size.filters, Vector<T>::kLanes), portions, weights},
                       program.threads);
}

// The gradient of its weights: an input is a portion of the channels of a group, which may be smaller than that of the
// convolution so that there are more of them.
template <typename T>
Division<T> divide_correlation(const Program& program, const Size& size) {
  const auto divide = [&](const Blocks<T>& blocks) {
    const int64_t inputs = static_cast<int64_t>(size.groups) * (size.channels / blocks.channels());
    const double weights = static_cast<double>(program.taps.size()) * blocks.channels() * Vector<T>::kLanes;
    return divide_gradient(blocks, {inputs, divide_up(size.filters, Vector<T>::kLanes), 1, weights}, program.threads);
  };
  Blocks<T> blocks(program, size);
  Division<T> best = divide(blocks);
  while (blocks.halve_channels() && best.threads > 1) {
    const Division<T> other = divide(blocks);
    if (other.cost < best.cost) best = other;
  }
  return best;
}

// Calls work(begin, end) for parts of 0 .. count - 1, by as many threads as `cost` multiply-adds are worth.
inline void share(int64_t count, double cost, int most_threads, const std::function<void(int64_t, int64_t)>& work) {
  const int threads = static_cast<int>(std::min<int64_t>(count_threads(cost, most_threads), std::max<int64_t>(1, count)));
  Threads::shared().run(threads, [&](int thread) {
    const Range range = find_part(count, threads, thread);
    work(range.begin, range.end);
  });
}

}  // namespace tiedexp
