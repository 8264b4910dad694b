// SPDX-License-Identifier: MIT
#pragma once
// The data messages of a round: sent and received in pieces that the transport can carry, counted for
// each pair of ranks, so that what is still under way when a round fails can be told and dropped.
#include <algorithm>
#include <cstddef>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mpi/traffic.hpp>    // Traffic
#include <eigenheads/mpi/transport.hpp>  // Transport

namespace eigenheads::inline EIGENHEADS_ABI::mpi::detail {

class Messages {
 public:
  static constexpr int tag = 2;
  // A message of no bytes, which both sides skip.
  static constexpr int none = -1;

  explicit Messages(Transport& transport)
      : transport_(transport),
        sent_(static_cast<std::size_t>(transport.size())),
        posted_(static_cast<std::size_t>(transport.size())) {}

  // Nothing is under way then.
  void begin_round() {
    std::fill(sent_.begin(), sent_.end(), 0);
    std::fill(posted_.begin(), posted_.end(), 0);
  }

  // A number for the message, which is_done() takes until forget() has taken it.
  [[nodiscard]] int send(int to, std::span<const std::byte> bytes) {
    return in_pieces(bytes, [&](std::span<const std::byte> piece) {
      make_slot();
      const Transport::Request request = transport_.send(to, tag, piece);
      traffic_.send(static_cast<Index>(piece.size()));
      return new_slot({.peer = to,
                       .sends = true,
                       .number = sent(to)++,
                       .bytes = piece.size(),
                       .request = request});
    });
  }
  [[nodiscard]] int receive(int from, std::span<std::byte> bytes) {
    return in_pieces(bytes, [&](std::span<std::byte> piece) {
      make_slot();
      const Transport::Request request = transport_.receive(from, tag, piece);
      return new_slot({.peer = from,
                       .sends = false,
                       .number = posted(from)++,
                       .bytes = piece.size(),
                       .request = request});
    });
  }

  // Whether all pieces are. Throws std::runtime_error if one had another length than was expected.
  [[nodiscard]] bool is_done(int message) {
    bool is_done = true;
    for (int i = message; i != none; i = slots_[static_cast<std::size_t>(i)].next)
      is_done &= slot_is_done(slots_[static_cast<std::size_t>(i)]);
    return is_done;
  }
  [[nodiscard]] int peer(int message) const {
    return slots_[static_cast<std::size_t>(message)].peer;
  }
  // Of a message that is done.
  void forget(int message) {
    for (int i = message, next; i != none; i = next) {
      Slot& slot = slots_[static_cast<std::size_t>(i)];
      next = slot.next;
      slot.next = free_;
      free_ = i;
    }
  }

  // To that rank, in this round.
  [[nodiscard]] Index sent_to(int to) const { return sent_[static_cast<std::size_t>(to)]; }
  // Of this round: sent less received, which is 0 if summed over all ranks.
  [[nodiscard]] Index balance() const {
    return std::accumulate(sent_.begin(), sent_.end(), Index{0}) -
           std::accumulate(posted_.begin(), posted_.end(), Index{0});
  }
  [[nodiscard]] bool is_any_under_way() const {
    return std::any_of(slots_.begin(), slots_.end(),
                       [](const Slot& slot) { return slot.is_under_way; });
  }
  // For a round that failed: rank p has sent counts[p] messages in all to this one. Receives that
  // nothing will come for are taken back, what nobody has asked for is received and dropped. To be
  // called until none is left: a rank with which something is under way, or `none`.
  [[nodiscard]] int drop(std::span<const Index> counts) {
    int left = none;
    for (Slot& slot : slots_) {
      if (!slot.is_under_way) continue;
      const bool comes = slot.sends || slot.number < counts[static_cast<std::size_t>(slot.peer)];
      if (!comes && transport_.cancel(slot.request)) slot.is_under_way = false;
      if (!is_gone(slot)) left = slot.peer;
    }
    const int unasked = drop_unasked(counts);
    return unasked != none ? unasked : left;
  }
  // Grows as messages come and go.
  [[nodiscard]] Index gone() const { return gone_; }
  // Takes back what can be, for ranks that make no more rounds; whether that was all.
  [[nodiscard]] bool cancel_all() {
    bool is_empty = true;
    for (Slot& slot : slots_) {
      if (slot.is_under_way && transport_.cancel(slot.request)) slot.is_under_way = false;
      is_empty &= !slot.is_under_way || is_gone(slot);
    }
    if (dropped_request_ && (transport_.cancel(*dropped_request_) || dropped_is_gone()))
      dropped_request_.reset();
    return is_empty && !dropped_request_;
  }

  [[nodiscard]] const Traffic& traffic() const { return traffic_; }
  void reset_traffic() { traffic_ = {}; }

 private:
  // One piece of a message.
  struct Slot {
    int peer = 0;
    bool sends = false;
    Index number = 0;  // of the pieces of this round between the two ranks, in this direction
    std::size_t bytes = 0;
    Transport::Request request{};
    int next = none;  // piece of the message, or free slot
    bool is_under_way = true;
  };

  template <class Byte, class Post>
  [[nodiscard]] int in_pieces(std::span<Byte> bytes, const Post& post) {
    int first = none, last = none;
    while (!bytes.empty()) {
      const std::size_t size = (std::min)(bytes.size(), transport_.most_bytes());
      const int slot = post(bytes.first(size));
      if (first == none) {
        first = slot;
      } else {
        slots_[static_cast<std::size_t>(last)].next = slot;
      }
      last = slot;
      bytes = bytes.subspan(size);
    }
    return first;
  }
  // Room for a message, before the transport has it: what is under way must be remembered.
  void make_slot() {
    if (free_ != none) return;
    slots_.push_back({.is_under_way = false});
    free_ = static_cast<int>(slots_.size()) - 1;
  }
  [[nodiscard]] int new_slot(const Slot& slot) {
    const int i = free_;
    free_ = slots_[static_cast<std::size_t>(i)].next;
    slots_[static_cast<std::size_t>(i)] = slot;
    return i;
  }

  [[nodiscard]] bool slot_is_done(Slot& slot) {
    if (!slot.is_under_way) return true;
    slot.is_under_way = false;  // also if the next line throws
    slot.is_under_way = !transport_.is_done(slot.request);
    if (slot.is_under_way) return false;
    ++gone_;
    if (!slot.sends) traffic_.receive(static_cast<Index>(slot.bytes));
    return true;
  }
  [[nodiscard]] bool is_gone(Slot& slot) {
    try {
      return slot_is_done(slot);
    } catch (const std::runtime_error&) {
      return true;  // of another length: it is dropped either way
    }
  }
  [[nodiscard]] bool dropped_is_gone() {
    try {
      return !dropped_request_ || transport_.is_done(*dropped_request_);
    } catch (const std::runtime_error&) {
      return true;  // as above
    }
  }
  [[nodiscard]] int drop_unasked(std::span<const Index> counts) {
    if (dropped_request_ && transport_.is_done(*dropped_request_)) {
      dropped_request_.reset();
      ++gone_;
    }
    if (dropped_request_) return dropped_from_;
    if (const std::optional<Arrival> arrival = transport_.arrived(tag)) {
      dropped_.resize(arrival->bytes);
      dropped_request_ = transport_.receive(arrival->from, tag, dropped_);
      dropped_from_ = arrival->from;
      ++posted(arrival->from);
      return dropped_from_;
    }
    dropped_ = {};
    for (int from = 0; from < transport_.size(); ++from)
      if (posted(from) < counts[static_cast<std::size_t>(from)]) return from;
    return none;
  }

  [[nodiscard]] Index& sent(int to) { return sent_[static_cast<std::size_t>(to)]; }
  [[nodiscard]] Index& posted(int from) { return posted_[static_cast<std::size_t>(from)]; }

  Transport& transport_;
  Traffic traffic_;
  std::vector<Slot> slots_;
  int free_ = none;
  std::vector<Index> sent_, posted_;  // by rank
  Index gone_ = 0;
  std::vector<std::byte> dropped_;
  std::optional<Transport::Request> dropped_request_;
  int dropped_from_ = none;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi::detail

#include <eigenheads/detail/macros_on.inl>
