// The files of the pages, built into the program (CMakeLists.txt): nothing is fetched from anywhere
// else.
#ifndef DERMIS_COORDINATOR_DASHBOARD_PAGES_H_
#define DERMIS_COORDINATOR_DASHBOARD_PAGES_H_

#include <string_view>

namespace dermis {

struct Page {
  const char* path;  // "/app.js"
  const char* type;
  std::string_view bytes;
};

// Null: there is none.
const Page* FindPage(std::string_view path);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_DASHBOARD_PAGES_H_
