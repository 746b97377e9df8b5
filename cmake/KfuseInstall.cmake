# What `cmake --install` puts where: libkfuse.so and libkfuse.a, headers, and what CMake and pkg-config need to find
# them. tests/test_install.sh builds consumers of both forms. SPDX-License-Identifier: Apache-2.0
include(CMakePackageConfigHelpers)

# The archive holds one object in which everything that is not public is local: no name of ours can meet one of the
# program's. A sanitized build has none.
if(NOT KFUSE_SANITIZE)
    set(KFUSE_ARCHIVE ${PROJECT_BINARY_DIR}/libkfuse.a)
    add_custom_command(OUTPUT ${KFUSE_ARCHIVE} VERBATIM COMMAND_EXPAND_LISTS
        COMMAND ${CMAKE_COMMAND} -E rm -f ${KFUSE_ARCHIVE}
        COMMAND ${CMAKE_LINKER} -r -o libkfuse.o $<TARGET_OBJECTS:kfuse_objects> $<TARGET_OBJECTS:kfuse_calls>
        COMMAND ${CMAKE_OBJCOPY} --localize-hidden libkfuse.o
        COMMAND ${CMAKE_AR} crs ${KFUSE_ARCHIVE} libkfuse.o
        DEPENDS kfuse_objects $<TARGET_OBJECTS:kfuse_objects> kfuse_calls $<TARGET_OBJECTS:kfuse_calls>
        COMMENT "Archiving libkfuse.a")
    add_custom_target(kfuse_archive ALL DEPENDS ${KFUSE_ARCHIVE})
    install(FILES ${KFUSE_ARCHIVE} TYPE LIB)
endif()

install(TARGETS libkfuse EXPORT kfuse)
install(DIRECTORY include/kfuse ${KFUSE_GENERATED}/include/kfuse TYPE INCLUDE FILES_MATCHING PATTERN "*.h")

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/kfuse)
install(EXPORT kfuse NAMESPACE kfuse:: FILE kfuseTargets.cmake DESTINATION ${package})
configure_package_config_file(cmake/kfuseConfig.cmake.in ${KFUSE_GENERATED}/kfuseConfig.cmake
    INSTALL_DESTINATION ${package} PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(${KFUSE_GENERATED}/kfuseConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${KFUSE_GENERATED}/kfuseConfig.cmake ${KFUSE_GENERATED}/kfuseConfigVersion.cmake DESTINATION ${package})

# Relative to where the file lies, so that an installed tree may be moved.
file(RELATIVE_PATH KFUSE_PC_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
string(REGEX REPLACE "/$" "" KFUSE_PC_PREFIX "${KFUSE_PC_PREFIX}")
configure_file(cmake/kfuse.pc.in ${KFUSE_GENERATED}/kfuse.pc @ONLY)
install(FILES ${KFUSE_GENERATED}/kfuse.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
