// Nothing of its own: this library exists for its precompiled header (CMakeLists.txt).
