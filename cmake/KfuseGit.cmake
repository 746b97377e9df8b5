# Run at every build (cmake -P): writes git.h only when the revision or the state of the tree changed, so that result
# rows name the text they were measured with. SPDX-License-Identifier: Apache-2.0
execute_process(COMMAND git -C ${SOURCE} rev-parse --short=12 HEAD
    OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
set(text "/* not built in a checkout */\n")
if(NOT failed)
    execute_process(COMMAND git -C ${SOURCE} status --porcelain --untracked-files=no -- . ":(exclude)results" ":(exclude)README.md"
        OUTPUT_VARIABLE changes ERROR_QUIET)
    set(dirty 0)
    if(NOT changes STREQUAL "")
        set(dirty 1)
    endif()
    set(text "#define KF_GIT_REVISION \"${revision}\"\n#define KF_GIT_DIRTY ${dirty}\n")
endif()
set(old "")
if(EXISTS ${OUTPUT})
    file(READ ${OUTPUT} old)
endif()
if(NOT text STREQUAL old)
    file(WRITE ${OUTPUT} "${text}")
endif()
