// A label file.
#include "tools/ingest/csv.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto table = dermis::ParseCsv(dermis::Text(data, size));
  if (!table.ok()) return 0;
  std::string written = "\xEF\xBB\xBF";  // One byte order mark is skipped; a second one is text.
  const auto add = [&written](const std::vector<std::string>& row) {
    for (size_t i = 0; i < row.size(); ++i) {
      written += (i > 0 ? "," : "") + dermis::CsvField(row[i]);
    }
    if (row.size() == 1 && row[0].empty())
      written += "\"\"";  // Else the line would be blank, and skipped.
    written += '\n';
  };
  add(table->header);
  for (const auto& row : table->rows) {
    dermis::Require(row.size() == table->header.size(), "rows are as long as the header");
    add(row);
  }
  const auto again = dermis::ParseCsv(written);
  dermis::Require(again.ok() && again->rows == table->rows,
                  "what was read can be written and read again");
  return 0;
}
