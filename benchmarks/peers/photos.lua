-- Posts the bodies of a list of files in turn, and prints what wrk saw as JSON.
-- wrk ... -- PATH LIST [NAME VALUE]...

local requests, at = {}, 0

function init(args)
  local path, list, headers = args[1], args[2], {}
  for i = 3, #args, 2 do headers[args[i]] = args[i + 1] end
  for name in io.lines(list) do
    local file = assert(io.open(name, "rb"))
    requests[#requests + 1] = wrk.format("POST", path, headers, file:read("*a"))
    file:close()
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.3f, "refused": %d, "broken": %d, "p50_ms": %.2f, "p99_ms": %.2f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
