-- Scripts are linted as they are written, not as the loader assembles them, so that a message names the line to change.
-- Besides the engine's own names, a file sees exactly what the fragments it includes define.
local lfs = require 'lfs'

max_line_length = 120
std = {
  read_globals = {
    'KEYS', 'ARGV', 'redis', 'cjson',
    'error', 'ipairs', 'math', 'next', 'pairs', 'pcall', 'select', 'string', 'table', 'tonumber', 'tostring', 'type',
    'unpack',
  },
}

local function matches(path, pattern)
  local file = assert(io.open(path))
  local text = '\n' .. file:read('*a')
  file:close()
  return text:gmatch(pattern)
end

local function add_definitions(path, names)
  for name in matches(path, '\nlocal function ([%w_]+)') do
    names[#names + 1] = name
  end
  for name in matches(path, '\nlocal ([%u_]+) =') do
    names[#names + 1] = name
  end
end

local function add_included(path, names, seen)
  for include in matches(path, '\n *%-%- @include (%S+)') do
    local fragment = 'lua/includes/' .. include .. '.lua'
    if not seen[fragment] then
      seen[fragment] = true
      add_definitions(fragment, names)
      add_included(fragment, names, seen)
    end
  end
end

for _, directory in ipairs({ 'lua', 'lua/includes' }) do
  for entry in lfs.dir(directory) do
    if entry:find('%.lua$') then
      local path, included, used_elsewhere = directory .. '/' .. entry, {}, {}
      add_included(path, included, {})
      if directory == 'lua/includes' then
        add_definitions(path, used_elsewhere)
      end
      for i, name in ipairs(used_elsewhere) do
        used_elsewhere[i] = '211/^' .. name .. '$'
      end
      files[path] = { read_globals = included, ignore = used_elsewhere }
    end
  end
end
