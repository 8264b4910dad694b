// SPDX-License-Identifier: MIT
#pragma once
// What a rank has sent and received.
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// Messages and bytes are of data: what rounds say to each other at their begin and end is counted
// apart. A message longer than the transport's most_bytes() counts as the pieces that it is sent in;
// one of no bytes is not sent, and not counted.
struct Traffic {
  Index messages_sent = 0, bytes_sent = 0, messages_received = 0, bytes_received = 0;
  Index control_messages_sent = 0;

  friend bool operator==(const Traffic&, const Traffic&) = default;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
