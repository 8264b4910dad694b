// SPDX-License-Identifier: MIT
#pragma once
// What carries bytes from one rank to another: MPI (mpi_transport.hpp), or threads of one process that
// stand for ranks (local_transport.hpp). Everything else in mpi/ is written against this, so it can be
// tried and tested without MPI.
#include <cstddef>
#include <optional>
#include <span>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// Messages between two ranks with one tag arrive in the order in which they were sent. Called by one
// thread of a rank at a time. Nothing here waits.
class Transport {
 public:
  // A message under way, until is_done() says so once; of the transport's own numbering.
  using Request = int;

  Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  virtual ~Transport() = default;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  // Of one message: longer ones are cut by the caller. MPI counts in int.
  [[nodiscard]] virtual std::size_t most_bytes() const { return std::size_t{1} << 30; }

  // The memory stays as it is until the request is done.
  virtual Request send(int to, int tag, std::span<const std::byte> bytes) = 0;
  virtual Request receive(int from, int tag, std::span<std::byte> bytes) = 0;
  // Moves messages on. A request that is done is forgotten.
  virtual bool is_done(Request request) = 0;
  // Takes a receive back that no message has come for; false if one has.
  virtual bool cancel(Request request) = 0;
  // The bytes of the next message of that tag, if one has come.
  virtual std::optional<std::size_t> arrived(int from, int tag) = 0;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
