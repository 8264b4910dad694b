// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <numeric>

#include <eigenheads/mpi/local_transport.hpp>

namespace {
namespace mpi = eigenheads::mpi;
using eigenheads::Index;
TEST(Ranks, ARing) {
  for (const int size : {1, 2, 3, 4, 8})
    mpi::run_locally(size, [](mpi::Ranks& ranks) {
      std::vector<int> mine(5000, ranks.rank()), theirs(5000);
      const int n = ranks.size();
      ranks.together("ring", {{"rows", 5000}}, [&] {
        auto s = ranks.send((ranks.rank() + 1) % n, std::as_bytes(std::span(mine)));
        auto r =
            ranks.receive((ranks.rank() + n - 1) % n, std::as_writable_bytes(std::span(theirs)));
        ranks.wait(r);
        ranks.wait(s);
      });
      EXPECT_EQ(theirs[4999], (ranks.rank() + n - 1) % n);
      std::vector<Index> counts(static_cast<std::size_t>(n)), all;
      for (int r = 0; r < n; ++r) counts[static_cast<std::size_t>(r)] = r;
      all.resize(static_cast<std::size_t>(n * (n - 1) / 2));
      std::vector<Index> own(static_cast<std::size_t>(ranks.rank()), ranks.rank());
      ranks.together("gather", {}, [&] { ranks.all_gather<Index>(own, counts, all); });
      std::size_t at = 0;
      for (int r = 0; r < n; ++r)
        for (int i = 0; i < r; ++i) EXPECT_EQ(all[at++], r);
      std::vector<double> values(17, ranks.rank());
      ranks.together("broadcast", {}, [&] { ranks.broadcast<double>(n - 1, values); });
      EXPECT_EQ(values[16], n - 1);
    });
}
TEST(Ranks, AThrow) {
  for (int i = 0; i < 50; ++i)
    mpi::run_locally(4, [](mpi::Ranks& ranks) {
      std::vector<int> mine(5000, ranks.rank()), theirs(5000);
      const int n = ranks.size();
      std::string what;
      try {
        ranks.together("ring", {{"rows", 5000}}, [&] {
          auto r =
              ranks.receive((ranks.rank() + n - 1) % n, std::as_writable_bytes(std::span(theirs)));
          auto s = ranks.send((ranks.rank() + 1) % n, std::as_bytes(std::span(mine)));
          if (ranks.rank() == 2) throw std::runtime_error("bad");
          ranks.wait(r);
          ranks.wait(s);
        });
      } catch (const std::exception& e) {
        what = e.what();
      }
      EXPECT_EQ(what, ranks.rank() == 2 ? "bad" : "eigenheads: rank 2 threw: bad");
    });
}
}  // namespace
