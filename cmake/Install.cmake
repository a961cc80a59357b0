# cmake --install BUILD --prefix P [--component C]: a tree that can be moved.
#
#   P/lib/dermis/         the programs, the libraries that they load, and LibTorch (what of it they need)
#   P/lib/dermis/cluster/ the ways to start a cluster (cluster/)
#   P/bin/                links to the programs
#   P/share/              studies, documents
#
# Components: coordinator, worker, cli, launch, docs; gpu, which is installed only where it is named: LibTorch's CUDA half
# with all libraries that it needs (3 GB; those that `tools/setup --gpu` brought). cluster/bundle adds the distribution's libraries in
# lib/dermis/system, which the programs look into first.
set(home lib/dermis)

# DT_RPATH, not DT_RUNPATH: it also serves what the libraries need in turn.
foreach(program IN ITEMS dermis-coordinator:coordinator dermis-decode:coordinator dermis-worker:worker dermis:cli)
  string(REPLACE ":" ";" program "${program}")
  list(POP_FRONT program target component)
  target_link_options(${target} PRIVATE -Wl,--disable-new-dtags)
  # LibTorch first: it brings a libgomp of its own, which the build uses too.
  set_target_properties(${target} PROPERTIES INSTALL_RPATH "$ORIGIN/torch/lib;$ORIGIN/system")
  install(TARGETS ${target} RUNTIME DESTINATION ${home} COMPONENT ${component})
  # The programs look for each other beside the file that a link leads to.
  install(CODE "
    set(bin \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/bin\")
    file(MAKE_DIRECTORY \"\${bin}\")
    file(CREATE_LINK ../${home}/${target} \"\${bin}/${target}\" SYMBOLIC)
    message(STATUS \"Installing: \${bin}/${target}\")" COMPONENT ${component})
endforeach()

target_link_options(dermis_onnx PRIVATE -Wl,--disable-new-dtags)
set_target_properties(dermis_onnx PROPERTIES INSTALL_RPATH "$ORIGIN/system")
install(TARGETS dermis_onnx LIBRARY DESTINATION ${home} COMPONENT worker)

# Of LibTorch only what a worker loads, in the layout in which its own search path finds the CUDA runtime.
file(GLOB torch_files "${DERMIS_TORCH_DIR}/lib/libtorch_cpu.so" "${DERMIS_TORCH_DIR}/lib/libc10.so"
     "${DERMIS_TORCH_DIR}/lib/libgomp*.so*")
install(FILES ${torch_files} DESTINATION ${home}/torch/lib COMPONENT worker
        PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
file(GLOB cuda_files RELATIVE "${DERMIS_TORCH_DIR}/.." "${DERMIS_TORCH_DIR}/../nvidia/*/lib/libcudart.so.*"
     "${DERMIS_TORCH_DIR}/../nvidia/*/lib/libcupti.so.*")
set(cuda_folders)
foreach(file IN LISTS cuda_files)
  get_filename_component(folder "${file}" DIRECTORY)
  list(APPEND cuda_folders "$ORIGIN/${folder}")
  install(FILES "${DERMIS_TORCH_DIR}/../${file}" DESTINATION ${home}/${folder} COMPONENT worker)
endforeach()
if(TARGET dermis_cuda)
  target_link_options(dermis_cuda PRIVATE -Wl,--disable-new-dtags)
  set_target_properties(dermis_cuda PROPERTIES INSTALL_RPATH "$ORIGIN/torch/lib;${cuda_folders};$ORIGIN/system")
  install(TARGETS dermis_cuda LIBRARY DESTINATION ${home} COMPONENT gpu EXCLUDE_FROM_ALL)
  file(GLOB gpu_files "${DERMIS_TORCH_DIR}/lib/libtorch_cuda*.so" "${DERMIS_TORCH_DIR}/lib/libc10_cuda.so"
       "${DERMIS_TORCH_DIR}/lib/libcaffe2_nvrtc.so" "${DERMIS_TORCH_DIR}/lib/libtorch_nvshmem.so")
  install(FILES ${gpu_files} DESTINATION ${home}/torch/lib COMPONENT gpu EXCLUDE_FROM_ALL
          PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
  install(DIRECTORY "${DERMIS_TORCH_DIR}/../nvidia" DESTINATION ${home} COMPONENT gpu EXCLUDE_FROM_ALL
          FILES_MATCHING PATTERN "*.so.*")
endif()

file(GLOB licences "${DERMIS_TORCH_DIR}/../torch-*.dist-info/licenses" "${DERMIS_TORCH_DIR}/../nvidia_cuda_*.dist-info/licenses")
foreach(folder IN LISTS licences)
  string(REGEX REPLACE ".*/([a-z_]+)-[^/]*/licenses$" "\\1" package "${folder}")
  install(DIRECTORY "${folder}/" DESTINATION "share/doc/dermis/licences/${package}" COMPONENT worker)
endforeach()

install(DIRECTORY cluster/ DESTINATION ${home}/cluster COMPONENT launch USE_SOURCE_PERMISSIONS
        PATTERN bundle EXCLUDE)
install(DIRECTORY studies DESTINATION share/dermis COMPONENT cli)
install(DIRECTORY docs/ DESTINATION share/doc/dermis COMPONENT docs)
install(FILES README.md LICENSE DESTINATION share/doc/dermis COMPONENT docs)

# What an installation needs, without tests and benchmarks (tools/programs).
add_custom_target(programs DEPENDS dermis dermis-coordinator dermis-decode dermis-worker dermis_onnx $<TARGET_NAME_IF_EXISTS:dermis_cuda>)
