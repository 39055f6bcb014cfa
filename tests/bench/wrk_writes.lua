-- Random writes of about 256 bytes: wrk -s wrk_writes.lua URL -- etcd|farshore [TOKEN].
-- Prints one line at the end: requests, microseconds, answers that were no success or never came, 99 % of the latencies in
-- microseconds, the median.
local keys = 10000
local counter = 0

function setup(thread)
    counter = counter + 1
    thread:set("number", counter)
end

local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local function base64(text)
    local out = {}
    for i = 1, #text, 3 do
        local a, b, c = text:byte(i, i + 2)
        local v = a * 65536 + (b or 0) * 256 + (c or 0)
        for shift = 3, 0, -1 do
            local digit = math.floor(v / 64 ^ shift) % 64 + 1
            out[#out + 1] = alphabet:sub(digit, digit)
        end
        if c == nil then out[#out] = "=" end
        if b == nil then out[#out - 1] = "=" end
    end
    return table.concat(out)
end

local pads = {}
function init(args)
    math.randomseed(os.time() * 16 + number)
    kind, token = args[1], args[2]
    wrk.headers["Content-Type"] = "application/json"
    if token then wrk.headers["Authorization"] = "Bearer " .. token end
    for i = 1, 64 do
        local text = {}
        for k = 1, 200 do text[k] = string.char(97 + math.random(0, 25)) end
        pads[i] = table.concat(text)
    end
end

function request()
    local key = string.format("w-%05d", math.random(0, keys - 1))
    local text = string.format("%09d", math.random(0, 999999999)) .. pads[math.random(1, 64)]
    if kind == "etcd" then
        return wrk.format("POST", "/v3/kv/put", nil,
                          '{"key":"' .. base64(key) .. '","value":"' .. base64(text:sub(1, 165)) .. '"}')
    end
    return wrk.format("PATCH", "/v1/workloads/" .. key, nil, '{"description":"' .. text .. text:sub(1, 29) .. '"}')
end

function done(summary, latency, requests)
    local e = summary.errors
    print(string.format("WRK %d %d %d %d %d", summary.requests, summary.duration, e.connect + e.read + e.write + e.status +
                        e.timeout, latency:percentile(99), latency:percentile(50)))
end
