/* Looking things up in the ops' tables. SPDX-License-Identifier: Apache-2.0 */
#include "op.h"
#include <string.h>

const kf_op *kf_op_find(const char *name)
{
    for (int i = 0; name && kf_ops[i]; i++)
        if (!strcmp(kf_ops[i]->name, name))
            return kf_ops[i];
    return NULL;
}

const kf_variant *kf_op_variant(const kf_op *op, const char *name)
{
    for (int i = 0; name && i < op->variant_count; i++)
        if (!strcmp(op->variants[i].name, name))
            return &op->variants[i];
    return NULL;
}

int kf_op_knob(const kf_op *op, const char *name)
{
    for (int i = 0; i < op->knob_count; i++)
        if (!strcmp(op->knobs[i].name, name))
            return i;
    return -1;
}

/* Place of `word` in a list of words separated by single spaces; the number of words for NULL. */
static int word_place(const char *list, const char *word, size_t length)
{
    int place = 0;
    while (list && *list) {
        const size_t n = strcspn(list, " ");
        if (word && n == length && !strncmp(list, word, n))
            return place;
        list += n + (list[n] == ' ');
        place++;
    }
    return word ? -1 : place;
}

int kf_op_dim(const kf_op *op, const char *name)
{
    return word_place(op->dims, name, strlen(name));
}

int kf_op_dim_count(const kf_op *op)
{
    return word_place(op->dims, NULL, 0);
}

bool kf_listed(const char *list, const char *word)
{
    return list && word_place(list, word, strlen(word)) >= 0;
}

bool kf_knob_used(const kf_knob_decl *knob, const char *variant)
{
    return kf_listed(knob->variants, variant);
}

void kf_config_default(kf_config *config, int knob, int64_t value)
{
    if (!config->set[knob])
        config->knob[knob] = value;
}

/* Damerau-free edit distance, cut off at 31 characters: names here are short. */
static int edit_distance(const char *a, const char *b)
{
    enum { CUT = 31 };
    int row[CUT + 1];
    const size_t a_length = strlen(a), b_length = strlen(b);
    const int n = a_length < CUT ? (int)a_length : CUT, m = b_length < CUT ? (int)b_length : CUT;
    for (int j = 0; j <= m; j++)
        row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            row[j] = best;
        }
    }
    return row[m];
}

const char *kf_nearest(const char *word, const char *const *choices, int count)
{
    const char *nearest = NULL;
    int least = (int)strlen(word) / 2 + 1; /* at most half of the word may differ */
    for (int i = 0; i < count; i++) {
        const size_t length = strlen(word);
        int distance = edit_distance(word, choices[i]);
        if (length >= 3 && !strncmp(word, choices[i], length))
            distance = 0; /* an abbreviation */
        if (distance <= least && (!nearest || distance < least)) {
            nearest = choices[i];
            least = distance;
        }
    }
    return nearest;
}
