#include "tools/ingest/csv.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dermis {

std::optional<size_t> CsvTable::Column(std::string_view name) const {
  const auto it = std::find(header.begin(), header.end(), name);
  if (it == header.end()) return std::nullopt;
  return it - header.begin();
}

absl::StatusOr<CsvTable> ParseCsv(std::string_view text) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);  // A byte order mark.
  CsvTable table;
  std::vector<std::string> row;
  std::string field;
  size_t line = 1, row_line = 1;
  bool quoted = false, was_quoted = false;

  const auto end_row = [&]() -> absl::Status {
    const bool blank = row.empty() && field.empty() && !was_quoted;
    if (!blank) {
      row.push_back(std::move(field));
      if (table.header.empty()) {
        table.header = row;
        std::sort(row.begin(), row.end());
        const auto twice = std::adjacent_find(row.begin(), row.end());
        if (twice != row.end()) {
          return absl::InvalidArgumentError(
              absl::StrCat("line ", row_line, ": column '", *twice, "' stands there twice"));
        }
      } else if (row.size() != table.header.size()) {
        return absl::InvalidArgumentError(absl::StrCat("line ", row_line, ": ", row.size(),
                                                       " fields where the header has ",
                                                       table.header.size()));
      } else {
        table.rows.push_back(row);
        table.lines.push_back(row_line);
      }
    }
    row.clear();
    field.clear();
    was_quoted = false;
    row_line = line;
    return absl::OkStatus();
  };

  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') ++line;
    if (quoted) {
      if (c != '"') {
        field.push_back(c);
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        field.push_back('"');
        ++i;
      } else {
        quoted = false;
      }
    } else if (c == '"' && field.empty() && !was_quoted) {
      quoted = was_quoted = true;
    } else if (c == ',') {
      row.push_back(std::move(field));
      field.clear();
      was_quoted = false;
    } else if (c == '\n') {
      if (auto status = end_row(); !status.ok()) return status;
    } else if (c != '\r') {
      field.push_back(c);
    }
  }
  if (quoted) {
    return absl::InvalidArgumentError(
        absl::StrCat("line ", row_line, ": a quote is opened and never closed"));
  }
  if (auto status = end_row(); !status.ok()) return status;
  if (table.header.empty()) return absl::InvalidArgumentError("the file is empty");
  return table;
}

std::string CsvField(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

}  // namespace dermis
