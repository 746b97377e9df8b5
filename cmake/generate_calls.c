/* Writes the typed calls out of the ops' tables: generate_calls HEADER SOURCE. A tool of the build.
 * SPDX-License-Identifier: Apache-2.0 */
#include "core/op.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

extern const kf_op *const kf_ops[];

static void upper(FILE *out, const char *text)
{
    for (; *text; text++)
        fputc(toupper((unsigned char)*text), out);
}

/* ---- the header --------------------------------------------------------------------------- */

static void describe_tensor(FILE *out, const kf_tensor_decl *t)
{
    fprintf(out, " *     %-16s %s%s, %s of %s: %s", t->name, t->optional ? "may be NULL; " : "",
            t->role == KF_INPUT ? "in" : "out", *t->dims ? t->dims : "one element",
            t->dtype ? kf_dtype_name(t->dtype) : "f32, f16 or bf16", t->help);
    if (t->alias) {
        fprintf(out, " (may be ");
        for (const char *c = t->alias; *c; c++)
            *c == ' ' ? fputs(" or ", out) : fputc(*c, out);
        fprintf(out, " itself)");
    }
    fputc('\n', out);
}

/* An enumerator for each name of a value: KF_BIAS_GELU_APPROXIMATE_TANH. */
static void name_values(FILE *out, const kf_op *op, const kf_attribute_decl *a)
{
    const char *word = a->words;
    for (int value = 0; word && *word; value++) {
        const size_t length = strcspn(word, " ");
        fprintf(out, "#define KF_");
        upper(out, op->name);
        fputc('_', out);
        upper(out, a->name);
        fputc('_', out);
        for (size_t i = 0; i < length; i++)
            fputc(toupper((unsigned char)word[i]), out);
        fprintf(out, " %d\n", value);
        word += length + (word[length] == ' ');
    }
}

static void write_options(FILE *out, const kf_op *op)
{
    for (int i = 0; i < op->attribute_count; i++)
        name_values(out, op, &op->attributes[i]);
    fprintf(out, "typedef struct kf_%s_options {\n", op->name);
    for (int i = 0; i < op->attribute_count; i++)
        fprintf(out, "    %s %s; /* %s */\n", op->attributes[i].real ? "double" : "int64_t",
                op->attributes[i].name, op->attributes[i].help);
    fprintf(out,
            "} kf_%s_options;\nstatic inline kf_%s_options kf_%s_defaults(void)\n{\n"
            "    const kf_%s_options options = {",
            op->name, op->name, op->name, op->name);
    for (int i = 0; i < op->attribute_count; i++)
        fprintf(out, "%s%.15g", i ? ", " : "", op->attributes[i].fallback);
    fprintf(out, "};\n    return options;\n}\n");
}

static void write_signature(FILE *out, const kf_op *op)
{
    fprintf(out, "kf_status kf_%s(kf_calls *calls", op->name);
    for (int i = 0; i < op->tensor_count; i++)
        fprintf(out, ",\n    const kf_operand *%s", op->tensors[i].name);
    if (op->attribute_count)
        fprintf(out, ",\n    const kf_%s_options *options", op->name);
    fputc(')', out);
}

static void write_declaration(FILE *out, const kf_op *op)
{
    fprintf(out, "/* %s:\n *     %s\n *\n", op->summary, op->formula);
    for (int i = 0; i < op->tensor_count; i++)
        describe_tensor(out, &op->tensors[i]);
    fprintf(out, op->attribute_count ? " *\n * options: NULL = kf_%s_defaults(). */\n" : " */\n",
            op->name);
    if (op->attribute_count)
        write_options(out, op);
    fprintf(out, "KF_API ");
    write_signature(out, op);
    fprintf(out, ";\n\n");
}

/* ---- the source --------------------------------------------------------------------------- */

static void write_definition(FILE *out, const kf_op *op)
{
    write_signature(out, op);
    fprintf(out, "\n{\n    const kf_operand *const operands[] = {");
    for (int i = 0; i < op->tensor_count; i++)
        fprintf(out, "%s%s", i ? ", " : "", op->tensors[i].name);
    fprintf(out, "};\n");
    if (op->attribute_count) {
        fprintf(out,
                "    kf_number numbers[%d];\n    if (!options)\n"
                "        return kf_call(calls, \"%s\", operands, NULL);\n",
                op->attribute_count, op->name);
        for (int i = 0; i < op->attribute_count; i++)
            fprintf(out, "    numbers[%d].%c = options->%s;\n", i,
                    op->attributes[i].real ? 'f' : 'i', op->attributes[i].name);
    }
    fprintf(out, "    return kf_call(calls, \"%s\", operands, %s);\n}\n\n", op->name,
            op->attribute_count ? "numbers" : "NULL");
}

int main(int argc, char **argv)
{
    FILE *header = argc == 3 ? fopen(argv[1], "w") : NULL;
    FILE *source = header ? fopen(argv[2], "w") : NULL;
    if (!source) {
        fprintf(stderr, "usage: generate_calls HEADER SOURCE\n");
        return 1;
    }
    fprintf(header,
            "/* One function per op. Made from the ops' tables; the rules are those of kf_call in "
            "kfuse.h.\n * SPDX-License-Identifier: Apache-2.0 */\n#ifndef KFUSE_CALLS_H\n"
            "#define KFUSE_CALLS_H\n\n#include <kfuse/kfuse.h>\n\n#ifdef __cplusplus\n"
            "extern \"C\" {\n#endif\n\n");
    fprintf(source, "/* Made from the ops' tables. SPDX-License-Identifier: Apache-2.0 */\n"
                    "#include <kfuse/calls.h>\n\n");
    for (int o = 0; kf_ops[o]; o++) {
        if (kf_ops[o]->internal)
            continue;
        write_declaration(header, kf_ops[o]);
        write_definition(source, kf_ops[o]);
    }
    fprintf(header, "#ifdef __cplusplus\n}\n#endif\n#endif\n");
    const int failed = ferror(header) | ferror(source);
    return fclose(header) | fclose(source) | failed;
}
