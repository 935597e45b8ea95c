-- Picks servers that come and go without a reload, and counts what goes to them. Written by lb-nginx.
--
-- A backend is a text in the dictionary lb_servers: a line of settings and a line for each server, as
-- balancer/server.rs writes them. Each worker keeps what it parsed until the turn, a number, changes. Workers of
-- all generations share the dictionaries, so an old worker follows changes too.
--
-- In lb_counts: "w W" of each worker W its process id and mark; "o W BACKEND SERVER" what W has in flight and
-- "q W BACKEND" who waits in W, which count as long as W lives; "r BACKEND SERVER", "n BACKEND" (also those
-- without a server, and with ones that left), "f BACKEND", "t BACKEND" requests, failures and time in
-- microseconds so far; "d BACKEND SERVER" until a server that failed is tried again.

local bit = require "bit"
local ffi = require "ffi"
local balancer = require "ngx.balancer"
local clear = require "table.clear"

ffi.cdef "int kill(int pid, int sig);"

local ngx, math, tonumber, ipairs, pairs = ngx, math, tonumber, ipairs, pairs
local band, bxor, lshift, rshift = bit.band, bit.bxor, bit.lshift, bit.rshift
local exiting = ngx.worker.exiting
local servers, counts = ngx.shared.lb_servers, ngx.shared.lb_counts

local MOST_RETRIES = 3 -- beside the first try
local QUEUE_STEP = 0.01 -- seconds between two looks for a free server
local SETTLE = 0.05 -- seconds until what a busy worker counted is added to what all did
local UNLOOKED = 8 -- a worker may have an eighth of its share of a limit without a look at the others
local EPERM = 1

local M = {}
local mark -- of the configuration this worker runs
local worker -- the number of this worker
local known = {} -- backends by name, as parsed
local counted = {} -- by key, what is to be added to lb_counts
local busy = 0 -- requests in flight in this worker
local flights = {} -- by key, what this worker has in flight to a server: one of each name, also when it returns
local waiting = {} -- by backend, how many requests wait in this worker

-- Backends -------------------------------------------------------------------------------------------------

local function key(kind, one, other)
    return kind .. " " .. one .. " " .. other
end

-- Exact whatever became of the key: the memory forgets the eldest when it is full.
local function show(flight)
    counts:set(flight.key, flight.open)
end

local function flight_to(backend, server)
    local name = key("o", worker, backend .. " " .. server)
    local flight = flights[name] or { key = name, open = 0 }
    flights[name], flight.gone = flight, false
    return flight
end

local function forget_ended(flight)
    if flight.gone and flight.open == 0 then
        counts:delete(flight.key)
        flights[flight.key] = nil
    end
end

local function server_of(backend, line)
    local name, host, port, weight, id, state = line:match "^(%S+) (%S+) (%d+) (%d+) (%d+) (%a+)$"
    if not name then
        return nil, "not a server: " .. line
    end
    return {
        name = name, host = host, port = tonumber(port), weight = tonumber(weight),
        id = tonumber(id), active = state == "active", failures = 0, failed_at = 0,
        since = ngx.now(), seed = ngx.crc32_long(id .. " " .. name),
        token = ngx.md5(name .. " " .. host .. " " .. port):sub(1, 16),
        requests_key = key("r", backend, name), down_key = key("d", backend, name),
    }
end

local function backend_of(name, text)
    local lines = text:gmatch "[^\n]+"
    local method, queue, limit, fall, eject, slow, cookie, header =
        (lines() or ""):match "^(%a+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%S+)$"
    if not method then
        return nil, "not a backend: " .. name
    end
    local backend = {
        name = name, text = text, method = method, queue = queue / 1000, limit = tonumber(limit),
        free = math.floor(limit / (UNLOOKED * ngx.worker.count())),
        fall = tonumber(fall), eject = eject / 1000, slow = slow / 1000,
        cookie = cookie ~= "-" and cookie or nil,
        header = header ~= "-" and "http_" .. header:gsub("-", "_") or nil,
        list = {}, by_token = {}, cursor = 0, even = true,
        requests_key = "n " .. name, failures_key = "f " .. name, time_key = "t " .. name,
    }
    for line in lines do
        local server, wrong = server_of(name, line)
        if not server then
            return nil, wrong
        end
        backend.list[#backend.list + 1] = server
        backend.by_token[server.token] = server
        backend.even = backend.even and server.weight == backend.list[1].weight
    end
    return backend
end

-- What is in flight to a server goes on being counted when it stays, moves, or leaves and returns.
local function replace(before, backend)
    local had = {}
    for _, server in ipairs(before and before.list or {}) do
        had[server.token] = server
        server.flight.gone = true
    end
    for i, server in ipairs(backend and backend.list or {}) do
        local old = had[server.token]
        if old then
            old.weight, old.active, old.id, old.seed = server.weight, server.active, server.id, server.seed
            had[server.token] = nil
            backend.list[i], backend.by_token[server.token] = old, old
            old.flight.gone = false
        else
            server.flight = flight_to(backend.name, server.name)
        end
    end
    for _, server in pairs(had) do
        server.active = false
        forget_ended(server.flight)
    end
end

local function backend_named(name)
    local turn, backend = servers:get "turn", known[name]
    if backend and backend.turn == turn then
        return backend
    end
    local text = servers:get("b " .. name)
    if not text then
        replace(backend, nil)
        known[name] = nil
        return nil
    end
    if not backend or backend.text ~= text then
        local fresh = backend_of(name, text)
        if not fresh then
            return nil
        end
        replace(backend, fresh)
        if not backend then
            for _, server in ipairs(fresh.list) do
                server.since = 0 -- there when this worker began: no slow start
            end
        end
        backend, known[name] = fresh, fresh
    end
    backend.turn = turn
    return backend
end

-- Workers --------------------------------------------------------------------------------------------------

local function alive(number)
    local text = counts:get("w " .. number)
    local pid = text and tonumber(text:match "^%d+")
    return pid and (ffi.C.kill(pid, 0) == 0 or ffi.errno() == EPERM) and text or nil
end

-- The workers that live, of all generations: number to "PID MARK".
local function workers()
    local last, first, found = counts:get "workers" or 0, counts:get "first" or 1, {}
    for number = first, last do
        found[number] = alive(number)
    end
    while first < last and not found[first] do
        counts:delete("w " .. first)
        first = first + 1
    end
    counts:set("first", first)
    return found
end

local function over_all(live, kind, what)
    local sum = 0
    for number in pairs(live) do
        sum = sum + (counts:get(key(kind, number, what)) or 0)
    end
    return sum
end

local function open_of(backend, server, live)
    return over_all(live, "o", backend .. " " .. server)
end

-- Picking --------------------------------------------------------------------------------------------------

-- What all workers have in flight at a server, where every other counts for what it may have unlooked: so no
-- worker has to look at the others as long as it has no more than that, and yet the limit holds.
local function total(backend, server)
    if not M.live or M.live_until < ngx.now() then
        M.live, M.live_until = workers(), ngx.now() + 1
    end
    local open, what = server.flight.open, backend.name .. " " .. server.name
    for number in pairs(M.live) do
        if number ~= worker then
            open = open + math.max(counts:get(key("o", number, what)) or 0, backend.free)
        end
    end
    return open
end

local function has_room(backend, server)
    local open = server.flight.open
    if backend.limit == 0 or open < backend.free then
        return true
    end
    return open < backend.limit and total(backend, server) < backend.limit
end

local function takes(backend, server, tried)
    return server.active and not (tried and tried[server])
        and not (server.down_until and server.down_until > ngx.now()) and has_room(backend, server)
end

local function share(backend, server)
    local age = ngx.now() - server.since
    if backend.slow > 0 and age < backend.slow then
        return server.weight * math.max(age / backend.slow, 0.05)
    end
    return server.weight
end

local function least(backend, tried)
    local list, n, best, best_load = backend.list, #backend.list, nil, math.huge
    backend.cursor = backend.cursor % n + 1
    for i = 0, n - 1 do
        local server = list[(backend.cursor + i - 1) % n + 1]
        if takes(backend, server, tried) then
            local load = (server.flight.open + 1) / share(backend, server)
            if load < best_load then
                best, best_load = server, load
            end
        end
    end
    return best
end

-- Smooth weighted round robin; equal weights need no look at all servers.
local function in_turn(backend, tried)
    local list, n = backend.list, #backend.list
    if backend.even and backend.slow == 0 then
        for _ = 1, n do
            backend.cursor = backend.cursor % n + 1
            local server = list[backend.cursor]
            if takes(backend, server, tried) then
                return server
            end
        end
        return nil
    end
    local total, best = 0, nil
    for _, server in ipairs(list) do
        if takes(backend, server, tried) then
            local weight = share(backend, server)
            server.current, total = (server.current or 0) + weight, total + weight
            if not best or server.current > best.current then
                best = server
            end
        end
    end
    if best then
        best.current = best.current - total
    end
    return best
end

local function drawn(backend, tried)
    local list, total = {}, 0
    for _, server in ipairs(backend.list) do
        if takes(backend, server, tried) then
            total = total + share(backend, server)
            list[#list + 1] = server
        end
    end
    local at = math.random() * total
    for _, server in ipairs(list) do
        at = at - share(backend, server)
        if at <= 0 then
            return server
        end
    end
    return list[#list]
end

local function random_two(backend, tried)
    local one, other = drawn(backend, tried), drawn(backend, tried)
    if one and (other.flight.open + 1) / share(backend, other) < (one.flight.open + 1) / share(backend, one) then
        return other
    end
    return one
end

local function multiplied(a, b) -- of 32 bits
    local high, low = rshift(a, 16), band(a, 0xffff)
    return bit.tobit(lshift(bit.tobit(high * b), 16) + low * b)
end

local function mixed(h) -- the end of MurmurHash3
    h = multiplied(bxor(h, rshift(h, 16)), 0x85ebca6b)
    h = multiplied(bxor(h, rshift(h, 13)), 0xc2b2ae35)
    return bxor(h, rshift(h, 16))
end

-- Weighted rendezvous hashing: a server that comes or goes moves its own share of the keys only.
local function hashed(backend, tried, text)
    local hash, best, best_score = ngx.crc32_long(text), nil, -1
    for _, server in ipairs(backend.list) do
        if takes(backend, server, tried) then
            local unit = (mixed(bxor(mixed(bit.tobit(hash)), server.seed)) % 4294967296 + 0.5) / 4294967296
            local score = -server.weight / math.log(unit)
            if score > best_score then
                best, best_score = server, score
            end
        end
    end
    return best
end

local function by_method(backend, tried)
    local method = backend.method
    if method == "least" then
        return least(backend, tried)
    elseif method == "random" then
        return random_two(backend, tried)
    elseif method == "source" then
        return hashed(backend, tried, ngx.var.remote_addr)
    elseif method == "uri" then
        return hashed(backend, tried, ngx.var.lb_path)
    elseif method == "header" then
        local value = ngx.var[backend.header]
        return value and value ~= "" and hashed(backend, tried, value) or in_turn(backend, tried)
    end
    return in_turn(backend, tried)
end

local function sticky_value(backend)
    local cookies = ngx.var.http_cookie
    if not cookies then
        return nil
    end
    for name, value in cookies:gmatch "([^=;%s]+)=([^;]*)" do
        if name == backend.cookie then
            return value
        end
    end
end

local function pick(backend, tried)
    if #backend.list == 0 then
        return nil
    end
    local stays = backend.cookie and backend.by_token[sticky_value(backend) or ""]
    if stays and takes(backend, stays, tried) then
        return stays
    end
    local server = by_method(backend, tried)
    if server then
        return server
    end
    -- None is left but those that failed lately: better one of them than none.
    for _, failed in ipairs(backend.list) do
        if failed.active and not (tried and tried[failed]) and has_room(backend, failed) then
            return failed
        end
    end
end

local function is_full(backend)
    for _, server in ipairs(backend.list) do
        if server.active and backend.limit > 0 then
            return true
        end
    end
    return false
end

local function take(server)
    local flight = server.flight
    flight.open = flight.open + 1
    show(flight)
end

local function release(server)
    local flight = server.flight
    flight.open = flight.open - 1
    show(flight)
    forget_ended(flight)
end

-- Takes a server for this request. Where a limit is set, other workers may have taken the last place.
local function taken(backend, tried)
    local server = pick(backend, tried)
    if not server then
        return nil
    end
    take(server)
    if backend.limit > 0 and server.flight.open > backend.free and total(backend, server) > backend.limit then
        release(server)
        return nil
    end
    return server
end

local function wait(name, more)
    local number = (waiting[name] or 0) + more
    waiting[name] = number > 0 and number or nil
    counts:set(key("q", worker, name), waiting[name])
end

local function waited(backend)
    local until_then = ngx.now() + backend.queue
    wait(backend.name, 1)
    local server
    repeat
        ngx.sleep(QUEUE_STEP)
        backend = backend_named(backend.name) or backend
        server = taken(backend)
    until server or ngx.now() >= until_then
    wait(backend.name, -1)
    return server, backend
end

-- A server that fails so many times in a row is left alone for a while.
local function failed(backend, server)
    server.failures = server.failures + 1
    if server.failures >= backend.fall and #backend.list > 1 then
        server.failures, server.down_until = 0, ngx.now() + backend.eject
        counts:set(server.down_key, true, backend.eject)
    end
end

-- Counting -------------------------------------------------------------------------------------------------

local function count(what, number)
    counted[what] = (counted[what] or 0) + number
end

-- The shared memory is locked for each change, so a busy worker makes them together.
local function settle()
    for what, number in pairs(counted) do
        counts:incr(what, number, 0)
    end
    clear(counted)
end

-- Phases ---------------------------------------------------------------------------------------------------

function M.access()
    local name = ngx.var.lb_backend
    local backend = name and name ~= "" and backend_named(name)
    if not backend then
        return
    end
    local server = taken(backend)
    if not server and is_full(backend) then
        server, backend = waited(backend)
    end
    if not server then
        counts:incr(backend.requests_key, 1, 0)
        counts:incr(backend.failures_key, 1, 0)
        return ngx.exit(503)
    end
    busy = busy + 1
    ngx.ctx.lb = { backend = backend, server = server }
end

function M.balance()
    local request = ngx.ctx.lb
    if not request then
        return ngx.exit(ngx.ERROR)
    end
    if balancer.get_last_failure() then
        failed(request.backend, request.server)
        release(request.server)
        local before = request.server
        request.server = nil
        request.tried = request.tried or {}
        request.tried[before] = true
        local backend = backend_named(request.backend.name) or request.backend
        -- With no other left it was a kept connection that broke: the same server by a new one.
        request.server = taken(backend, request.tried) or (before.active and before)
        if not request.server then
            return ngx.exit(ngx.ERROR)
        end
        if request.server == before then
            take(before)
        end
    else
        balancer.set_more_tries(math.min(#request.backend.list - 1, MOST_RETRIES))
    end
    local server = request.server
    local ok, wrong = balancer.set_current_peer(server.host, server.port)
    if not ok then
        ngx.log(ngx.EMERG, "lb: ", server.name, ": ", wrong)
        return ngx.exit(ngx.ERROR)
    end
end

function M.headers()
    if exiting() then
        ngx.header["Connection"] = "close" -- the client must not send its next request to this worker
    end
    local request = ngx.ctx.lb
    local backend, server = request and request.backend, request and request.server
    if server and backend.cookie and sticky_value(backend) ~= server.token then
        local cookies = ngx.header["Set-Cookie"] or {}
        cookies = type(cookies) == "table" and cookies or { cookies }
        cookies[#cookies + 1] = backend.cookie .. "=" .. server.token .. "; Path=/; HttpOnly"
        ngx.header["Set-Cookie"] = cookies
    end
end

function M.log()
    local request = ngx.ctx.lb
    if not request then
        return
    end
    local backend, server, status = request.backend, request.server, ngx.status
    if server then
        release(server)
        count(server.requests_key, 1)
        if status < 500 then
            server.failures = 0
        end
    end
    count(backend.requests_key, 1)
    if status >= 500 then
        count(backend.failures_key, 1)
    end
    if status ~= 101 then -- a websocket's life is no response time
        count(backend.time_key, math.floor((ngx.now() - ngx.req.start_time()) * 1000000))
    end
    busy = busy - 1
    if busy == 0 or exiting() then
        settle()
    end
end

-- Control --------------------------------------------------------------------------------------------------

local function names()
    local list = {}
    for name in (servers:get "names" or ""):gmatch "%S+" do
        list[#list + 1] = name
    end
    return list
end

-- What was counted goes with a server or a backend: one that returns begins at 0. Servers that leave while
-- something is in flight to them are reported until it has ended, or until they return.
local function remember_gone(name, before, after)
    local stays, live, gone = {}, workers(), {}
    for _, server in ipairs(after and after.list or {}) do
        stays[server.name] = true
    end
    for line, backend, server in (servers:get "gone" or ""):gmatch "((%S+) (%S+)\n)" do
        if backend ~= name or not stays[server] then
            gone[#gone + 1] = line
        end
    end
    for _, server in ipairs(before and before.list or {}) do
        if not stays[server.name] then
            counts:delete(server.requests_key)
            if open_of(name, server.name, live) > 0 then
                gone[#gone + 1] = name .. " " .. server.name .. "\n"
            end
        end
    end
    if before and not after then
        counts:delete(before.requests_key)
        counts:delete(before.failures_key)
        counts:delete(before.time_key)
    end
    servers:set("gone", table.concat(gone))
end

-- Takes over backends: "backend NAME" and its lines, "remove NAME", and first "all HASH" or "state HASH", which
-- names what then is in force: these backends and no others, or these and all others as they are.
local function take_over(text)
    local extent, state = text:match "^(%a+) (%x+)\n"
    if extent ~= "all" and extent ~= "state" then
        return nil, "must begin with the state's name"
    end
    local changes, name = {}, nil
    if extent == "all" then
        for _, earlier in ipairs(names()) do
            changes[earlier] = false
        end
    end
    for line in text:gmatch "[^\n]+" do
        local verb, word = line:match "^(%a+) (%S+)$"
        if verb == "backend" or verb == "remove" then
            name = verb == "backend" and word or nil
            changes[word] = name and {} or false
        elseif verb == "static" then
            name = nil -- in the configuration itself
        elseif name then
            local lines = changes[name]
            lines[#lines + 1] = line
        end
    end
    local all = {}
    for _, known_name in ipairs(names()) do
        all[known_name] = true
    end
    for changed, lines in pairs(changes) do
        local new, wrong
        if lines then
            new, wrong = backend_of(changed, table.concat(lines, "\n"))
            if not new then
                return nil, wrong
            end
        end
        local before = servers:get("b " .. changed)
        remember_gone(changed, before and backend_of(changed, before), new)
        if new then
            local ok, full = servers:safe_set("b " .. changed, new.text)
            if not ok then
                return nil, full
            end
        else
            servers:delete("b " .. changed)
        end
        all[changed] = new and true or nil
    end
    local list = {}
    for kept in pairs(all) do
        list[#list + 1] = kept
    end
    servers:set("names", table.concat(list, " "))
    servers:set("state", state)
    servers:incr("turn", 1, 0)
    return true
end

local function body()
    ngx.req.read_body()
    local text = ngx.req.get_body_data()
    local file = not text and ngx.req.get_body_file()
    if file then
        local handle = io.open(file, "rb")
        text = handle and handle:read "*a"
        if handle then
            handle:close()
        end
    end
    return text or ""
end

function M.take_servers()
    local ok, wrong = take_over(body())
    ngx.status = ok and 200 or 400
    ngx.print(ok and "taken\n" or tostring(wrong) .. "\n")
end

local function report_gone(out, live)
    local rest = ""
    for name, server in (servers:get "gone" or ""):gmatch "(%S+) (%S+)\n" do
        local open = open_of(name, server, live)
        if open > 0 then
            rest = rest .. name .. " " .. server .. "\n"
            out[#out + 1] = ("server %s %s %d 0 down"):format(name, server, open)
        end
    end
    servers:set("gone", rest)
end

function M.status()
    settle()
    local live, out = workers(), {}
    local function say(...)
        out[#out + 1] = (...):format(select(2, ...))
    end
    say("mark %s", mark)
    say("pid %d", ngx.worker.pid())
    say("boot %s", counts:get "boot")
    say("state %s", servers:get "state" or "-")
    for _, name in ipairs(names()) do
        local backend = backend_named(name)
        if backend then
            say("backend %s %d %d %d %d", name, counts:get(backend.requests_key) or 0,
                counts:get(backend.failures_key) or 0, over_all(live, "q", name),
                counts:get(backend.time_key) or 0)
            for _, server in ipairs(backend.list) do
                say("server %s %s %d %d %s", name, server.name, open_of(name, server.name, live),
                    counts:get(server.requests_key) or 0, counts:get(server.down_key) and "down" or "up")
            end
        end
    end
    report_gone(out, live)
    ngx.print(table.concat(out, "\n"), "\n")
end

-- Life -----------------------------------------------------------------------------------------------------

-- In the master, at its start and at each reload: the file is what was last asked for.
function M.start(this_mark, name)
    mark = this_mark
    local file = ngx.config.prefix() .. name
    local handle = io.open(file, "rb")
    local text = handle and handle:read "*a"
    if handle then
        handle:close()
    end
    if not text then
        error("lb: " .. file .. " cannot be read")
    end
    local ok, wrong = take_over(text)
    if not ok then
        error("lb: " .. file .. ": " .. wrong)
    end
    counts:add("boot", ngx.crc32_long(tostring(ngx.now()) .. math.random()))
end

function M.start_worker()
    known = {}
    math.randomseed(ngx.now() * 1000 + ngx.worker.pid())
    worker = counts:incr("workers", 1, 0)
    counts:set("w " .. worker, ngx.worker.pid() .. " " .. mark)
    ngx.timer.every(SETTLE, settle)
end

function M.end_worker()
    settle()
    for name in pairs(flights) do
        counts:delete(name)
    end
    counts:delete("w " .. worker)
end

return M
