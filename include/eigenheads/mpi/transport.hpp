// SPDX-License-Identifier: MIT
#pragma once
// What carries bytes from one rank to another: MPI (mpi_transport.hpp), or threads of one process that
// stand for ranks (local_transport.hpp). Everything else in mpi/ is written against this, so it can be
// tried and tested without MPI.
#include <cstddef>
#include <optional>
#include <span>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mpi/traffic.hpp>  // Traffic

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// A message that has come and that no receive is posted for.
struct Arrival {
  int from;
  std::size_t bytes;
};

// Messages between two ranks with one tag arrive in the order in which they were sent. Called by one
// thread of a rank at a time. Nothing here waits.
class Transport {
 public:
  // A message under way, until is_done() says so once; of the transport's own numbering.
  using Request = int;
  // Messages of this tag are short, 4 KiB at most, and are sent before anybody asks for them.
  static constexpr int control_tag = 1;

  Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  virtual ~Transport() = default;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  // Of one message: longer ones are cut by the caller. Plans count as if it were this.
  [[nodiscard]] virtual std::size_t most_bytes() const { return Traffic::most_bytes; }

  // The memory stays as it is until the request is done.
  virtual Request send(int to, int tag, std::span<const std::byte> bytes) = 0;
  virtual Request receive(int from, int tag, std::span<std::byte> bytes) = 0;
  // Moves messages on. A request that is done is forgotten. Throws std::runtime_error, and has
  // forgotten the request, if the message had another length than was to be received.
  virtual bool is_done(Request request) = 0;
  // Takes back, and forgets, a receive that no message has come for, or a send that can still be
  // stopped; false if it is too late for that, or if the transport never can.
  virtual bool cancel(Request request) = 0;
  // The next message of that tag, from any rank, if one has come.
  virtual std::optional<Arrival> arrived(int tag) = 0;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
