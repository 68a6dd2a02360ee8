# The C library, bitorch::runtime: one archive or one shared object (BUILD_SHARED_LIBS) with everything that it needs, and what
# its users' builds have to know. A wheel is built without it, and takes nothing of it.
set(left_out)
if(built_by_scikit)
  set(left_out EXCLUDE_FROM_ALL)
endif()
add_library(bitorch_runtime ${left_out} csrc/c/bitorch_runtime.cpp $<TARGET_OBJECTS:bitorch_core> ${kernel_objects})
target_include_directories(bitorch_runtime PRIVATE csrc
  PUBLIC $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
target_compile_definitions(bitorch_runtime PRIVATE BITORCH_RUNTIME_VERSION="${PROJECT_VERSION}")
target_link_libraries(bitorch_runtime PRIVATE $<BUILD_INTERFACE:bitorch_options> $<BUILD_INTERFACE:Threads::Threads>)
# No minor version before 1.0 promises to be what the last one was. Both kinds are made of the same object files.
set_target_properties(bitorch_runtime PROPERTIES EXPORT_NAME runtime PUBLIC_HEADER include/bitorch_runtime.h
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR} DEFINE_SYMBOL "")

get_target_property(kind bitorch_runtime TYPE)
if(kind STREQUAL "SHARED_LIBRARY")
  # Templates of the C++ library that were made here are visible whatever the compiler is told: the linker keeps them in.
  if(APPLE)
    target_link_options(bitorch_runtime PRIVATE LINKER:-exported_symbol,_bitorch_*)
  else()
    target_link_options(bitorch_runtime PRIVATE LINKER:--version-script=${CMAKE_CURRENT_SOURCE_DIR}/cmake/exported.map)
    set_property(TARGET bitorch_runtime APPEND PROPERTY LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cmake/exported.map)
  endif()
endif()

# Whoever links the archive links what is behind it: the C++ library that this compiler would add, and threads where they are a
# library of their own. As names, not as a language: a project that knows C only has no rule to link C++.
set(BITORCH_CXX_LIBRARY "" CACHE STRING "The C++ library behind the archive, such as stdc++, where the compiler does not say")
set(behind ${BITORCH_CXX_LIBRARY})
foreach(library IN LISTS CMAKE_CXX_IMPLICIT_LINK_LIBRARIES)
  string(REGEX REPLACE "^.*/lib|\\.(a|so)$" "" library "${library}") # of static programs it is the path of an archive
  if(library STREQUAL "m" OR (NOT BITORCH_CXX_LIBRARY AND library MATCHES "^(stdc\\+\\+|c\\+\\+.*|supc\\+\\+)$"))
    list(APPEND behind ${library})
  endif()
endforeach()
if(NOT behind MATCHES "c\\+\\+")
  message(FATAL_ERROR "${CMAKE_CXX_COMPILER} does not say which C++ library it links, but only "
    "\"${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES}\"; tell by -DBITORCH_CXX_LIBRARY=stdc++ (or c++)")
endif()
string(REGEX MATCHALL "[^ ;]+" threads "${CMAKE_THREAD_LIBS_INIT}") # not Threads::Threads, a target that users' folders may lack
list(APPEND behind ${threads})

# In the build that the library is part of: alias bitorch::runtime.
if(kind STREQUAL "SHARED_LIBRARY")
  add_library(bitorch::runtime ALIAS bitorch_runtime)
else()
  # The archive as a file, for the same reason: a target would bring its language along.
  add_library(bitorch_runtime_archive INTERFACE)
  add_dependencies(bitorch_runtime_archive bitorch_runtime)
  target_include_directories(bitorch_runtime_archive INTERFACE ${CMAKE_CURRENT_SOURCE_DIR}/include)
  target_link_libraries(bitorch_runtime_archive INTERFACE $<TARGET_FILE:bitorch_runtime> ${behind})
  add_library(bitorch::runtime ALIAS bitorch_runtime_archive)
  foreach(library IN LISTS behind)
    target_link_libraries(bitorch_runtime INTERFACE $<INSTALL_INTERFACE:${library}>)
  endforeach()
endif()

if(NOT BITORCH_INSTALL)
  return()
endif()
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(cmake_folder ${CMAKE_INSTALL_LIBDIR}/cmake/bitorch_runtime)
install(TARGETS bitorch_runtime EXPORT bitorch_runtimeTargets COMPONENT c ${left_out}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  PUBLIC_HEADER DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT bitorch_runtimeTargets NAMESPACE bitorch:: DESTINATION ${cmake_folder} COMPONENT c ${left_out})
write_basic_package_version_file(bitorch_runtimeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES cmake/bitorch_runtimeConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/bitorch_runtimeConfigVersion.cmake
  DESTINATION ${cmake_folder} COMPONENT c ${left_out})

# What is behind the shared object is its own business, unless somebody links all archives (pkg-config --static).
list(TRANSFORM behind PREPEND "-l" REGEX "^[^-]")
list(JOIN behind " " BEHIND)
if(kind STREQUAL "SHARED_LIBRARY")
  set(LIBS_BEHIND "")
  set(LIBS_PRIVATE "\nLibs.private: ${BEHIND}")
else()
  set(LIBS_BEHIND " ${BEHIND}")
  set(LIBS_PRIVATE "")
endif()
file(RELATIVE_PATH TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /) # so that the prefix may be chosen at installation
configure_file(cmake/bitorch_runtime.pc.in bitorch_runtime.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/bitorch_runtime.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT c ${left_out})
