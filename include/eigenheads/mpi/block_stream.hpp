// SPDX-License-Identifier: MIT
#pragma once
// Blocks of bytes that pass the ranks that need them, in the order of their numbers, while those ranks
// compute with the ones before. A block goes from its owner along a chain: owner, owner + 1, ... mod
// P, without the ranks that do not need it. So a rank receives a block once, sends it at most once,
// and holds `stream_buffers` blocks, however many ranks there are.
//
// Nobody waits for ever. A rank has the blocks that pass it in order of their numbers, and does all in
// that order: it gives a block a buffer, receives or packs it, sends it on, uses it. Take the lowest
// block that some rank is not done with. All lower ones are done everywhere, so each rank of its chain
// has a buffer for it, or gets one without waiting for anybody: the buffer's last block was a lower
// one. So whoever holds the block has sent it, or is computing and will, the next of the chain has
// posted its receive, or will, and the block reaches the end of its chain; then it is the next
// block's turn. That sends are posted in order also makes messages between two ranks meet their
// receives, which are told apart by their order alone.
#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include <eigenheads/detail/arena.hpp>  // line_bytes
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>  // blocks_of
#include <eigenheads/mpi/ranks.hpp>      // Ranks
#include <eigenheads/mpi/traffic.hpp>    // Traffic

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// One block is used, one is sent on, and two are on their way here. With two in all, a rank would wait
// for each block that its neighbour is late with.
inline constexpr int stream_buffers = 4;

// A block as it passes one rank.
struct BlockStep {
  Index number, bytes;
  int from, to;  // -1: it is this rank's own; nobody comes after this rank
  bool is_used;  // by this rank: an owner may only hand it on
};

// The blocks that pass a rank. plan.count(), and of each block plan.owner(i), plan.bytes(i) and
// plan.needs(i, rank), the same on all ranks: nothing is said of it in a message.
template <class Plan>
[[nodiscard]] std::vector<BlockStep> steps_of(const Plan& plan, int rank, int ranks) {
  std::vector<BlockStep> steps;
  for (Index i = 0; i < plan.count(); ++i) {
    const int owner = plan.owner(i);
    const bool is_used = plan.needs(i, rank);
    if (!is_used && rank != owner) continue;
    BlockStep step{i, plan.bytes(i), -1, -1, is_used};
    if (rank != owner) {
      step.from = (rank + ranks - 1) % ranks;
      while (step.from != owner && !plan.needs(i, step.from))
        step.from = (step.from + ranks - 1) % ranks;
    }
    int next = (rank + 1) % ranks;
    while (next != owner && !plan.needs(i, next)) next = (next + 1) % ranks;
    if (next != owner) step.to = next;
    if (is_used || step.to >= 0) steps.push_back(step);
  }
  return steps;
}

// What a rank sends and receives by such steps, and how often.
[[nodiscard]] inline Traffic cost_of(std::span<const BlockStep> steps) {
  Traffic cost;
  for (const BlockStep& step : steps) {
    if (step.to >= 0) cost.send(step.bytes);
    if (step.from >= 0) cost.receive(step.bytes);
  }
  return cost;
}

// From one buffer to the next.
[[nodiscard]] inline Index buffer_bytes(std::span<const BlockStep> steps) {
  Index most = 0;
  for (const BlockStep& step : steps) most = (std::max)(most, step.bytes);
  constexpr auto line = static_cast<Index>(eigenheads::detail::line_bytes);
  return eigenheads::detail::blocks_of(most, line) * line;
}

template <class Pack>
class BlockStream {
 public:
  // buffers: stream_buffers * buffer_bytes(steps); pack(number, bytes) writes a block of this rank's
  // own. Buffers, steps and pack must outlive this object, whose destructor waits for what is under way
  // in them.
  BlockStream(Ranks& ranks, std::span<const BlockStep> steps, std::span<std::byte> buffers,
              const Pack& pack)
      : ranks_(ranks), steps_(steps), buffers_(buffers), pack_(pack) {}

  // use(number, bytes) for every block that this rank uses, in their order. To be called now and then
  // from within use: advance().
  template <class Use>
  void run(const Use& use) {
    for (used_ = 0; used_ < count(); ++used_) {
      advance();
      while (ready_ <= used_) make_ready();
      const BlockStep& step = steps_[used_];
      if (step.is_used) use(step.number, std::span<const std::byte>(bytes_of(used_)));
    }
    while (freed_ < count()) {
      finish_send(freed_);
      ++freed_;
    }
  }

  // Moves on what can be without waiting. By the thread that called run().
  void advance() {
    ranks_.progress();
    bool moves = true;
    while (moves) {
      moves = false;
      while (freed_ < used_ && is_sent(freed_)) ++freed_, moves = true;
      while (begun_ < count() && begun_ < freed_ + stream_buffers) begin(begun_++), moves = true;
      while (ready_ < begun_ && has_arrived(ready_)) become_ready(), moves = true;
    }
  }

 private:
  using Pending = Ranks::Pending;
  struct Slot {
    std::optional<Pending> receive, send;
  };

  [[nodiscard]] std::size_t count() const { return steps_.size(); }
  [[nodiscard]] Slot& slot(std::size_t i) { return slots_[i % stream_buffers]; }
  [[nodiscard]] std::span<std::byte> bytes_of(std::size_t i) const {
    const std::size_t each = buffers_.size() / stream_buffers;
    return buffers_.subspan(i % stream_buffers * each, static_cast<std::size_t>(steps_[i].bytes));
  }

  // Gives step i the buffer of one that is freed.
  void begin(std::size_t i) {
    const BlockStep& step = steps_[i];
    if (step.from >= 0)
      slot(i).receive.emplace(ranks_.receive(step.from, bytes_of(i)));
    else
      pack_(step.number, bytes_of(i));
  }
  [[nodiscard]] bool has_arrived(std::size_t i) {
    auto& receive = slot(i).receive;
    return !receive || ranks_.is_done(*receive);
  }
  void become_ready() {
    const std::size_t i = ready_++;
    slot(i).receive.reset();
    if (steps_[i].to >= 0) slot(i).send.emplace(ranks_.send(steps_[i].to, bytes_of(i)));
  }
  [[nodiscard]] bool is_sent(std::size_t i) {
    auto& send = slot(i).send;
    if (send && !ranks_.is_done(*send)) return false;
    send.reset();
    return true;
  }
  void finish_send(std::size_t i) {
    auto& send = slot(i).send;
    if (send) ranks_.wait(*send);
    send.reset();
  }

  // The next step that is not ready, waiting for it if need be.
  void make_ready() {
    if (ready_ == begun_) {
      if (begun_ == freed_ + stream_buffers) finish_send(freed_++);
      begin(begun_++);
    }
    if (auto& receive = slot(ready_).receive) ranks_.wait(*receive);
    become_ready();
  }

  Ranks& ranks_;
  std::span<const BlockStep> steps_;
  std::span<std::byte> buffers_;
  const Pack& pack_;
  std::array<Slot, stream_buffers> slots_;
  // Steps before these have a buffer, are here and sent on, are used, and have given their buffer back.
  std::size_t begun_ = 0, ready_ = 0, used_ = 0, freed_ = 0;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
