//! What a binary can do: found out from `nginx -V`, and by having it check a few lines.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lb_core::balancer::Failure;

use super::compose::CONFIG;
use super::engine::Parts;
use super::launch::{Checked, Worker, check};
use super::main_lines::temporary_paths;
use crate::Version;

/// What a binary can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// As it says itself: `1.22.1`.
    pub said: String,
    /// The same, to decide by.
    pub version: Version,
    /// Whether byte streams can be passed on.
    pub streams: bool,
    /// Modules to load, by path.
    pub modules: Vec<PathBuf>,
    /// Kinds of modules it has that keep temporary files.
    pub temporary: Vec<&'static str>,
}

impl Abilities {
    /// Finds out. The files checked are staged where the next configuration will be.
    pub(crate) async fn find(parts: &Parts, worker: Option<&Worker>) -> Result<Self, Failure> {
        let exit = parts.launch.run(&["-V"]).await?;
        let built =
            Built::parse(&exit.output).ok_or_else(|| Failure::reply("nginx -V", &exit.output))?;
        if built.version < Version::OLDEST {
            return Err(Failure::Setup {
                field: "nginx",
                message: format!("is {}: must be {} or later", built.said, Version::OLDEST),
            });
        }
        let temporary = built.temporary();
        let probe = Probe { parts, worker, temporary: &temporary };
        let (streams, modules) = match built.stream() {
            Module::Built => (true, Vec::new()),
            Module::Loaded(module) => match probe.passes(&module).await? {
                true => (true, vec![module]),
                false => (false, Vec::new()),
            },
            Module::Absent => (false, Vec::new()),
        };
        let version = built.version;
        tracing::info!(%version, membership = ?version.membership(), streams, "nginx");
        Ok(Self { said: built.said, version, streams, modules, temporary })
    }
}

/// What a configuration of a few lines is made of.
struct Probe<'a> {
    parts: &'a Parts,
    worker: Option<&'a Worker>,
    temporary: &'a [&'static str],
}

impl Probe<'_> {
    /// Whether the binary takes this module.
    async fn passes(&self, module: &Path) -> Result<bool, Failure> {
        let mut text = format!("load_module {};\n", module.display());
        if let Some(worker) = self.worker {
            let _ = writeln!(text, "user {};", worker.names);
        }
        let directory = self.parts.directory.clone();
        let paths = temporary_paths(directory.path(), self.temporary);
        let _ =
            write!(text, "pid nginx.pid;\nevents {{ }}\nhttp {{\n    access_log off;\n{paths}}}\n");
        super::engine::blocking(move || {
            Ok(directory.stage([(CONFIG.to_owned(), text.as_bytes())].into_iter())?)
        })
        .await?;
        let checked = check(&*self.parts.launch, &self.parts.directory.stage_path()).await?;
        tracing::debug!(?module, ?checked, "probed");
        Ok(checked == Checked::Valid)
    }
}

/// What `nginx -V` says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Built {
    said: String,
    version: Version,
    modules: PathBuf,
    arguments: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Module {
    Built,
    /// From this file.
    Loaded(PathBuf),
    Absent,
}

impl Built {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let said = text.lines().find_map(|l| l.split_once(" version: ")?.1.split_once('/'))?.1;
        let said = said.split_whitespace().next()?;
        let arguments = text.lines().find_map(|l| l.strip_prefix("configure arguments:"))?;
        let value = |name: &str| arguments.split_whitespace().find_map(|a| a.strip_prefix(name));
        let prefix = value("--prefix=").unwrap_or("/usr/local/nginx");
        let modules = value("--modules-path=")
            .map_or_else(|| Path::new(prefix).join("modules"), PathBuf::from);
        let (said, arguments) = (said.to_owned(), arguments.to_owned());
        Some(Self { version: said.parse().ok()?, said, modules, arguments })
    }

    fn has(&self, argument: &str) -> bool {
        self.arguments.split_whitespace().any(|a| a == argument)
    }

    pub(crate) fn stream(&self) -> Module {
        match (self.has("--with-stream"), self.has("--with-stream=dynamic")) {
            (true, _) => Module::Built,
            (_, true) => Module::Loaded(self.modules.join("ngx_stream_module.so")),
            _ => Module::Absent,
        }
    }

    pub(crate) fn temporary(&self) -> Vec<&'static str> {
        let all = ["proxy", "fastcgi", "uwsgi", "scgi"];
        let there = |kind: &&str| !self.has(&format!("--without-http_{kind}_module"));
        all.into_iter().filter(there).collect()
    }
}

#[cfg(any(test, fuzzing))]
impl Abilities {
    /// A binary of this version with streams.
    pub(crate) fn of(version: Version) -> Self {
        Self {
            said: version.to_string(),
            version,
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
        assert_eq!((built.said.as_str(), built.version), ("1.22.1", Version::new(1, 22, 1)));
        let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
        assert_eq!(built.stream(), Module::Loaded(module.to_owned()));
        assert_eq!(built.temporary(), ["proxy", "fastcgi", "uwsgi"]);
        let official = DEBIAN
            .replace("--with-stream=dynamic", "--with-stream")
            .replace("1.22.1", "1.27.4 (x)");
        let built = Built::parse(&official).unwrap();
        assert!(built.version.reloads_gently() && built.stream() == Module::Built);
        let openresty =
            "nginx version: openresty/1.21.4.1\nconfigure arguments: --prefix=/o --with-pcre-jit\n";
        let built = Built::parse(openresty).unwrap();
        assert_eq!((built.stream(), built.version), (Module::Absent, Version::new(1, 21, 4)));
        assert_eq!(Built::parse("sh: nginx: not found"), None);
    }
}
