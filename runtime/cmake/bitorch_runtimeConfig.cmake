include("${CMAKE_CURRENT_LIST_DIR}/bitorch_runtimeTargets.cmake")

# The archive's links say which C++ library is behind it. That its language is C++ would ask a project of C alone for a C++
# linker.
get_target_property(bitorch_runtime_configurations bitorch::runtime IMPORTED_CONFIGURATIONS)
foreach(bitorch_runtime_configuration IN LISTS bitorch_runtime_configurations)
  set_property(TARGET bitorch::runtime PROPERTY IMPORTED_LINK_INTERFACE_LANGUAGES_${bitorch_runtime_configuration})
endforeach()
unset(bitorch_runtime_configurations)
unset(bitorch_runtime_configuration)
