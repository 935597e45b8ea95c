//! What a binary can do: found out from `nginx -V`, and by having it check a few lines.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lb_core::Membership;
use lb_core::balancer::Failure;

use super::compose::CONFIG;
use super::engine::Parts;
use super::launch::{Checked, Worker, check};
use super::main_lines::temporary_paths;

/// `keepalive_min_timeout` is there from this version on.
const GENTLE: Version = Version(1, 27, 4);
/// The oldest version that has all directives written here.
const OLDEST: Version = Version(1, 22, 0);
/// What the Lua module builds on.
const NDK: &str = "ndk_http_module.so";

/// A version, to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u32, u32, u32);

/// What a binary can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// As it says itself: `1.22.1`.
    pub version: String,
    number: Version,
    /// How servers come and go.
    pub membership: Membership,
    /// Whether byte streams can be passed on.
    pub streams: bool,
    /// Modules to load, by path.
    pub modules: Vec<PathBuf>,
    /// Kinds of modules it has that keep temporary files.
    pub temporary: Vec<&'static str>,
}

impl Abilities {
    /// Whether Lua picks the servers of HTTP backends.
    pub(crate) fn lua(&self) -> bool {
        self.membership == Membership::RunTimeHttp
    }

    /// The same, with servers changed by reloads.
    pub(crate) fn without_lua(mut self) -> Self {
        let is_lua = |m: &PathBuf| m.to_string_lossy().contains("lua") || m.ends_with(NDK);
        self.modules.retain(|m| !is_lua(m));
        self.membership = match self.number >= GENTLE {
            true => Membership::GentleReload,
            false => Membership::Reload,
        };
        self
    }

    /// Finds out. The files checked are staged where the next configuration will be.
    pub(crate) async fn find(parts: &Parts, worker: Option<&Worker>) -> Result<Self, Failure> {
        let exit = parts.launch.run(&["-V"]).await?;
        let built =
            Built::parse(&exit.output).ok_or_else(|| Failure::reply("nginx -V", &exit.output))?;
        if built.number < OLDEST {
            let Version(a, b, _) = OLDEST;
            return Err(Failure::Setup {
                field: "nginx",
                message: format!("is {}: must be {a}.{b} or later", built.version),
            });
        }
        let (temporary, mut modules) = (built.temporary(), Vec::new());
        let probe = Probe { parts, worker, temporary: &temporary };
        let streams = match built.stream() {
            Module::Built => true,
            Module::Loaded => {
                let module = built.modules.join("ngx_stream_module.so");
                let there = probe.passes(std::slice::from_ref(&module), "").await?;
                modules.extend(there.then_some(module));
                there
            }
            Module::Absent => false,
        };
        let lua = built.lua_modules();
        let with_lua = probe.passes(&lua, "init_by_lua_block { require \"ngx.balancer\" }").await?;
        modules.extend(lua.into_iter().filter(|_| with_lua));
        let membership = match (with_lua, built.number >= GENTLE) {
            (true, _) => Membership::RunTimeHttp,
            (false, true) => Membership::GentleReload,
            (false, false) => Membership::Reload,
        };
        tracing::info!(version = %built.version, ?membership, streams, "nginx");
        Ok(Self {
            version: built.version,
            number: built.number,
            membership,
            streams,
            modules,
            temporary,
        })
    }
}

/// What a configuration of a few lines is made of.
struct Probe<'a> {
    parts: &'a Parts,
    worker: Option<&'a Worker>,
    temporary: &'a [&'static str],
}

impl Probe<'_> {
    /// Whether the binary takes these modules and this line of `http`.
    async fn passes(&self, modules: &[PathBuf], line: &str) -> Result<bool, Failure> {
        let mut text = String::new();
        for module in modules {
            let _ = writeln!(text, "load_module {};", module.display());
        }
        if let Some(worker) = self.worker {
            let _ = writeln!(text, "user {};", worker.names);
        }
        let directory = self.parts.directory.clone();
        let paths = temporary_paths(directory.path(), self.temporary);
        let _ = write!(
            text,
            "pid nginx.pid;\nevents {{ }}\nhttp {{\n    access_log off;\n{paths}    {line}\n}}\n"
        );
        super::engine::blocking(move || {
            Ok(directory.stage([(CONFIG.to_owned(), text.as_bytes())].into_iter())?)
        })
        .await?;
        let checked = check(&*self.parts.launch, &self.parts.directory.stage_path()).await?;
        tracing::debug!(line, ?checked, "probed");
        Ok(checked == Checked::Valid)
    }
}

/// What `nginx -V` says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Built {
    version: String,
    number: Version,
    modules: PathBuf,
    arguments: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Module {
    Built,
    Loaded,
    Absent,
}

impl Built {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let version = text.lines().find_map(|l| l.split_once(" version: ")?.1.split_once('/'))?.1;
        let version = version.split_whitespace().next()?;
        let mut numbers = version.split('.').map(|n| {
            n.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
        });
        let number = Version(numbers.next()?, numbers.next()?, numbers.next()?);
        let arguments = text.lines().find_map(|l| l.strip_prefix("configure arguments:"))?;
        let value = |name: &str| arguments.split_whitespace().find_map(|a| a.strip_prefix(name));
        let prefix = value("--prefix=").unwrap_or("/usr/local/nginx");
        let modules = value("--modules-path=")
            .map_or_else(|| Path::new(prefix).join("modules"), PathBuf::from);
        Some(Self { version: version.to_owned(), number, modules, arguments: arguments.to_owned() })
    }

    fn has(&self, argument: &str) -> bool {
        self.arguments.split_whitespace().any(|a| a == argument)
    }

    pub(crate) fn stream(&self) -> Module {
        match (self.has("--with-stream"), self.has("--with-stream=dynamic")) {
            (true, _) => Module::Built,
            (_, true) => Module::Loaded,
            _ => Module::Absent,
        }
    }

    /// The modules Lua takes: none where it is built in (`OpenResty`).
    pub(crate) fn lua_modules(&self) -> Vec<PathBuf> {
        let mut arguments = self.arguments.split_whitespace();
        if arguments.any(|a| a.starts_with("--add-module=") && a.contains("ngx_lua")) {
            return Vec::new();
        }
        [NDK, "ngx_http_lua_module.so"].map(|m| self.modules.join(m)).to_vec()
    }

    pub(crate) fn temporary(&self) -> Vec<&'static str> {
        let all = ["proxy", "fastcgi", "uwsgi", "scgi"];
        let there = |kind: &&str| !self.has(&format!("--without-http_{kind}_module"));
        all.into_iter().filter(there).collect()
    }
}

#[cfg(any(test, fuzzing))]
impl Abilities {
    /// A binary with streams that changes servers so.
    pub(crate) fn of(membership: Membership) -> Self {
        Self {
            version: "1.22.1".to_owned(),
            number: Version(1, 22, 1),
            membership,
            streams: true,
            modules: Vec::new(),
            temporary: vec!["proxy"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "nginx version: nginx/1.22.1\nbuilt with OpenSSL 3.0.20\nTLS SNI support enabled\n\
        configure arguments: --with-cc-opt='-g -O2' --prefix=/usr/share/nginx \
        --modules-path=/usr/lib/nginx/modules --with-http_v2_module --with-stream=dynamic \
        --without-http_scgi_module\n";

    #[test]
    fn what_a_binary_says_of_itself_is_understood() {
        let built = Built::parse(DEBIAN).unwrap();
        assert_eq!((built.version.as_str(), built.number), ("1.22.1", Version(1, 22, 1)));
        assert_eq!(built.stream(), Module::Loaded);
        assert_eq!(built.lua_modules()[0], Path::new("/usr/lib/nginx/modules/ndk_http_module.so"));
        assert_eq!(built.temporary(), ["proxy", "fastcgi", "uwsgi"]);
        let official = DEBIAN
            .replace("--with-stream=dynamic", "--with-stream")
            .replace("1.22.1", "1.27.4 (x)");
        let built = Built::parse(&official).unwrap();
        assert!(built.number >= GENTLE && built.stream() == Module::Built);
        let openresty = "nginx version: openresty/1.21.4.1\nconfigure arguments: --prefix=/o --add-module=../ngx_lua-0.10.21\n";
        let built = Built::parse(openresty).unwrap();
        assert!(built.lua_modules().is_empty() && built.stream() == Module::Absent);
        assert_eq!(built.number, Version(1, 21, 4));
        assert_eq!(Built::parse("sh: nginx: not found"), None);
    }
}
