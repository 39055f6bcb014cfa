/* The signed bytes of a head: see signed_head.h. */
#include "log/signed_head.h"

#include "net/sign.h"

enum { ARENA_MAX = 256 * 1024 };

static const char context[16] = "farshore head 0"; /* and its NUL: a key signs nothing else that begins so */

int far_head_message(struct far_slice cluster_uuid, uint64_t incarnation_epoch, uint64_t seq, struct far_slice head,
                     const struct far_list *voters, uint8_t ret_message[FAR_HEAD_MESSAGE_MAX], size_t *ret_len,
                     struct far_error *err)
{
    const struct far_sub_head_voter *voter = voters->items;
    uint8_t *p = ret_message;
    if (cluster_uuid.len != 16 || head.len != FAR_HEAD_SIZE || voters->count > FAR_HEAD_VOTERS_MAX) {
        return far_fail(err, FAR_INVALID, "the head behind event %llu is none that could be signed", (unsigned long long)seq);
    }
    memset(ret_message, 0, FAR_HEAD_MESSAGE_MAX);
    memcpy(p, context, sizeof context);
    memcpy(p + 16, cluster_uuid.data, 16);
    far_put_le64(p + 32, incarnation_epoch);
    far_put_le64(p + 40, seq);
    memcpy(p + FAR_HEAD_IN_MESSAGE, head.data, FAR_HEAD_SIZE);
    far_put_le64(p + 80, voters->count);
    p += FAR_HEAD_MESSAGE_FIXED;
    for (size_t i = 0; i < voters->count; i++, p += FAR_HEAD_VOTER_BYTES) {
        far_put_le64(p, voter[i].server_id);
        if (voter[i].public_key.len == 32) {
            memcpy(p + 8, voter[i].public_key.data, 32);
        }
    }
    *ret_len = (size_t)(p - ret_message);
    return 0;
}

struct far_slice far_head_voter_key(const struct far_list *voters, uint64_t server_id)
{
    const struct far_sub_head_voter *voter = voters->items;
    for (size_t i = 0; i < voters->count; i++) {
        if (voter[i].server_id == server_id) {
            return voter[i].public_key;
        }
    }
    return far_slice(NULL, 0);
}

static bool fits(const struct far_row_cluster *cluster, const struct far_row_head *head, const struct far_cmd_head_sign *cmd)
{
    uint8_t message[FAR_HEAD_MESSAGE_MAX];
    size_t len;
    struct far_slice key = far_head_voter_key(&head->voters, cmd->server_id);
    return key.len == 0 ||
           (far_head_message(cluster->uuid, head->incarnation_epoch, head->seq, head->head, &head->voters, message, &len, NULL) ==
                0 &&
            far_sign_check(key, far_slice(message, len), cmd->signature));
}

enum far_head_fit far_head_signature_fits(struct far_state *state, const struct far_command *command)
{
    struct far_cmd_head_sign cmd;
    struct far_row_cluster cluster;
    struct far_row_head head;
    struct far_arena arena;
    struct far_key cluster_key = far_key(&far_schema_row_cluster), key = far_key(&far_schema_row_head);
    if (command->kind != FAR_KIND_cmd_head_sign) {
        return FAR_HEAD_FITS;
    }
    far_arena_init(&arena, ARENA_MAX);
    bool known = far_schema_decode(&far_schema_cmd_head_sign, command->payload, &arena, &cmd, NULL) == 0;
    far_key_u64(&key, known ? cmd.seq : 0);
    known = known && far_state_get(state, &far_schema_row_cluster, &cluster_key, &arena, &cluster, NULL) == 0 &&
            far_state_get(state, &far_schema_row_head, &key, &arena, &head, NULL) == 0;
    enum far_head_fit fit = !known ? FAR_HEAD_UNKNOWN : fits(&cluster, &head, &cmd) ? FAR_HEAD_FITS : FAR_HEAD_WRONG;
    far_arena_done(&arena);
    return fit;
}
