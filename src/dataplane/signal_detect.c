/* The detector: see signal.h. */
#include "dataplane/signal.h"

#include <string.h>

void far_signal_detect(const struct far_signal_features *features, const struct far_signal_features *history, size_t history_count,
                       struct far_signal_score *ret_score)
{
    (void)history;
    (void)history_count;
    *ret_score = (struct far_signal_score){.detector = FAR_SIGNAL_DETECTOR_VERSION, .evidence = features->values[FAR_SIGNAL_bare_pages]};
}
