/* GET of the policies: what is in force, also where nobody has set anything. */
#include "api/request.h"
#include "log/retain.h"

/* The one row of a table, zeroed if it is not there. */
static int read_row(struct far_api_request *request, const struct far_schema *table, void *row, struct far_error *err)
{
    struct far_log_view view;
    struct far_key key = far_key(table);
    int rc = far_api_view(request, &view, err);
    if (rc != 0) {
        return rc;
    }
    rc = far_state_get(&view.state, table, &key, &request->arena, row, err);
    if (rc == FAR_NOT_FOUND) {
        memset(row, 0, table->size);
        rc = 0;
    }
    far_api_view_end(request, &view);
    return rc;
}

static int compute_retention(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct far_row_retention row;
    int rc = read_row(request, &far_schema_row_retention, &row, err);
    if (rc == 0) {
        *ret_answer = json_pack("{s:o, s:o, s:o, s:o, s:o}", "days", far_json_u64(row.days != 0 ? row.days : FAR_RETAIN_DAYS), "bytes",
                                far_json_u64(row.bytes != 0 ? row.bytes : FAR_RETAIN_BYTES), "first_seq",
                                far_json_u64(row.first_seq != 0 ? row.first_seq : 1), "progress_days",
                                far_json_u64(row.progress_days != 0 ? row.progress_days : FAR_PROGRESS_DAYS), "compacted_seq",
                                far_json_u64(row.compacted_seq));
    }
    return rc;
}

static int compute_recovery_policy(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct far_row_recovery_policy row;
    int rc = read_row(request, &far_schema_row_recovery_policy, &row, err);
    if (rc == 0) {
        *ret_answer = json_pack("{s:b}", "second_approval", row.second_approval);
    }
    return rc;
}

void far_api_retention(struct far_api_request *request)
{
    far_api_compute(request, 200, compute_retention);
}

void far_api_recovery_policy(struct far_api_request *request)
{
    far_api_compute(request, 200, compute_recovery_policy);
}
