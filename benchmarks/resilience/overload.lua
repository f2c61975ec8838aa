-- For wrk: post a body at random times, and count the statuses.
-- Arguments: the file of the body, mean seconds between an answer and the next request of a connection, headers.

function init(args)
  local file = io.open(args[1], "rb")
  wrk.method, wrk.body = "POST", file:read("*a")
  pause = tonumber(args[2])
  for i = 3, #args do
    local name, value = args[i]:match("^(.-): (.*)$")
    wrk.headers[name] = value
  end
  math.randomseed(1)
  request_bytes = wrk.format()
end

function delay()
  return math.floor(-1000 * pause * math.log(1 - math.random()))
end

function request()
  return request_bytes
end

served, refused, others = 0, 0, 0

function response(status)
  if status == 200 then served = served + 1 elseif status == 429 then refused = refused + 1 else others = others + 1 end
end

local worker
function setup(thread) worker = thread end

function done(summary)
  local lost = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  print(string.format('{"seconds": %f, "served": %d, "refused": %d, "others": %d, "lost": %d}', summary.duration / 1e6,
    worker:get("served"), worker:get("refused"), worker:get("others"), lost))
end
