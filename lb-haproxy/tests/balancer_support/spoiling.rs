//! What spoils a configuration or stands in HAProxy's place.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use lb_core::{ConfigRenderer, Error, Fragment, RenderedConfig, Result, RoutingTable};
use lb_haproxy::HaproxyRenderer;

/// Writes a line HAProxy refuses in the backends of apps named `bad...`, and fails on those named `worse...`.
#[derive(Debug, Default)]
pub struct Spoiling {
    /// What no check sees and no worker comes up with.
    fatal: Mutex<String>,
}

/// HAProxy's check does not see that this is above the limit.
pub const TOO_MANY: &str = "global\n    ulimit-n 90000000\n";

impl Spoiling {
    pub fn with(&self, fatal: &str) {
        fatal.clone_into(&mut self.fatal.lock().unwrap());
    }
}

impl ConfigRenderer for Spoiling {
    fn render(&self, table: &RoutingTable) -> Result<RenderedConfig> {
        if let Some(name) = table.backends.keys().find(|b| b.as_str().starts_with("worse")) {
            return Err(Error::invalid(format!("backend \"{name}\""), "cannot be expressed"));
        }
        let mut config = HaproxyRenderer::new().render(table)?;
        for fragment in &mut config.fragments {
            if let Fragment::Text { backend: Some(name), text } = fragment
                && name.as_str().starts_with("bad")
            {
                text.push_str("    no-such-keyword at all\n");
            }
        }
        let text = self.fatal.lock().unwrap().clone();
        config.fragments.push(Fragment::Text { backend: None, text });
        Ok(config)
    }
}

/// A program of these lines of a shell.
pub fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/bash\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}
