// SPDX-License-Identifier: MIT
#pragma once
// What a rank has sent and received.
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// Messages and bytes are of data: what rounds say to each other at their begin and end is counted
// apart. A message longer than most_bytes counts as the pieces that it is sent in; one of no bytes is
// not sent, and not counted.
struct Traffic {
  // Of one piece. MPI counts in int, and some of its implementations go wrong from 2^30 elements on.
  static constexpr Index most_bytes = Index{1} << 29;

  Index messages_sent = 0, bytes_sent = 0, messages_received = 0, bytes_received = 0;
  Index control_messages_sent = 0;

  void send(Index bytes) {
    messages_sent += pieces_of(bytes);
    bytes_sent += bytes;
  }
  void receive(Index bytes) {
    messages_received += pieces_of(bytes);
    bytes_received += bytes;
  }
  Traffic& operator+=(const Traffic& more) {
    messages_sent += more.messages_sent;
    bytes_sent += more.bytes_sent;
    messages_received += more.messages_received;
    bytes_received += more.bytes_received;
    control_messages_sent += more.control_messages_sent;
    return *this;
  }

  [[nodiscard]] static Index pieces_of(Index bytes) {
    return (bytes + most_bytes - 1) / most_bytes;
  }

  friend bool operator==(const Traffic&, const Traffic&) = default;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
