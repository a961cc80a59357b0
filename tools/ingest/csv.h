// Comma-separated values (RFC 4180: quotes, doubled quotes, CRLF), read whole.
#ifndef DERMIS_TOOLS_INGEST_CSV_H_
#define DERMIS_TOOLS_INGEST_CSV_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace dermis {

struct CsvTable {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;   // Each as long as the header.
  std::vector<size_t> lines;                    // Line number of each row, from 1.

  std::optional<size_t> Column(std::string_view name) const;
};

// Errors (INVALID_ARGUMENT) name the line: an open quote, a row of another length, a column named twice.
absl::StatusOr<CsvTable> ParseCsv(std::string_view text);

// Quoted where it must be.
std::string CsvField(const std::string& text);

}  // namespace dermis

#endif  // DERMIS_TOOLS_INGEST_CSV_H_
