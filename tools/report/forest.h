// Estimates with their intervals, one a row, on a common axis: inline SVG that takes the page's
// colours.
#ifndef DERMIS_TOOLS_REPORT_FOREST_H_
#define DERMIS_TOOLS_REPORT_FOREST_H_

#include <string>
#include <vector>

namespace dermis {

struct ForestRow {
  std::string name;  // Plain text; a row without an estimate is a heading.
  bool heading = false;
  bool strong = false;  // The one that the page is about.
  double value = 0, low = 0, high = 0;
  std::string note = {};  // At the right, e.g. "p = .03".
};

struct Forest {
  std::string title;          // Spoken, not drawn.
  std::string axis;           // What is measured.
  std::string note_title;     // Over the notes.
  double reference = 0;       // A line: no effect.
  double low = -1, high = 1;  // Of the axis.
  std::vector<ForestRow> rows;
};

std::string RenderForest(const Forest& forest);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_FOREST_H_
