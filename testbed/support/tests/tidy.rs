//! What no compiler looks after: heads of files, docs that say something, cases that are listed, names that stay out of
//! the core, sources that stay in their crates, dependencies that are used.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Files below a folder of the workspace whose names end so, in order, with their texts.
fn files(folder: impl AsRef<Path>, end: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                let theirs = ["target", "node_modules"].contains(&name.as_str());
                if !theirs && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if name.ends_with(end) {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no files ending in {end}");
    found
}

/// The crates that a platform depends on, by their folders.
fn crates() -> Vec<PathBuf> {
    let of_platforms = |path: &PathBuf| {
        let folder = path.parent().unwrap();
        folder == Path::new("lb") || folder.to_string_lossy().starts_with("lb-")
    };
    let manifests = files("", "Cargo.toml").into_iter().map(|(path, _)| path);
    let crates: Vec<_> =
        manifests.filter(of_platforms).map(|path| path.parent().unwrap().to_owned()).collect();
    assert!(crates.len() >= 10, "{crates:?}");
    crates
}

/// Fails with all that was found, one a line.
fn nothing(found: &[String]) {
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn files_begin_with_what_they_are() {
    let without = files("", ".rs").into_iter().filter(|(_, text)| {
        let first = text.lines().find(|line| !line.starts_with("#![") && !line.is_empty());
        !first.is_some_and(|line| line.starts_with("//! ") || line.starts_with("#!/"))
            && !text.starts_with("#![no_main]")
    });
    nothing(
        &without.map(|(path, _)| format!("{}: no //! head", path.display())).collect::<Vec<_>>(),
    );
}

#[test]
fn docs_are_no_bare_questions() {
    let mut found = Vec::new();
    for (path, text) in crates().iter().flat_map(|folder| files(folder, ".rs")) {
        for (number, line) in text.lines().enumerate() {
            let Some(doc) = line.trim_start().strip_prefix("/// ") else { continue };
            let question = ["What", "Which", "Who", "Whose", "Where", "When", "Why", "How"]
                .iter()
                .any(|word| doc.strip_prefix(word).is_some_and(|rest| [".", "?"].contains(&rest)));
            if question {
                found.push(format!("{}:{}: {doc:?} tells nobody", path.display(), number + 1));
            }
        }
    }
    nothing(&found);
}

/// A case is a public function of a suite that takes its bed; its macro must make a test of it.
#[test]
fn every_case_of_a_suite_is_listed() {
    let sources = files("lb-conformance/src", ".rs");
    let mut cases = BTreeSet::new();
    let mut words = BTreeSet::new();
    for (_, text) in &sources {
        let mut listing = false;
        for line in text.lines() {
            listing = line.starts_with("macro_rules!") || (listing && line != "}");
            let case = line.strip_prefix("pub async fn ");
            if let Some((name, _)) = case.and_then(|rest| rest.split_once("(bed: &Bed)")) {
                cases.insert(name.to_owned());
            } else if listing {
                words.extend(
                    line.split(|c: char| c != '_' && !c.is_alphanumeric()).map(str::to_owned),
                );
            }
        }
    }
    assert!(cases.len() > 100, "only {} cases found", cases.len());
    nothing(
        &cases
            .difference(&words)
            .map(|case| format!("{case} is in no suite's list"))
            .collect::<Vec<_>>(),
    );
}

/// Engines, balancers and template languages are the backends' business; crates may be named.
#[test]
fn the_core_knows_no_backend() {
    let backends = ["docker", "podman", "haproxy", "nginx", "bollard", "handlebars"];
    let mut found = Vec::new();
    for (path, text) in files("lb-core/src", ".rs") {
        for (number, line) in text.lines().enumerate() {
            let mut line = line.to_lowercase();
            for backend in backends {
                line = line.replace(&format!("lb-{backend}"), "");
            }
            if let Some(backend) = backends.iter().find(|backend| line.contains(**backend)) {
                found.push(format!("{}:{}: {backend}", path.display(), number + 1));
            }
        }
    }
    nothing(&found);
}

/// A crate is packaged with its own folder only.
#[test]
fn sources_stay_in_their_crates() {
    let mut found = Vec::new();
    for folder in crates() {
        for (path, text) in files(&folder, ".rs") {
            // How far up is still in the crate.
            let depth = path.strip_prefix(&folder).unwrap().components().count() - 1;
            for (number, line) in text.lines().enumerate() {
                let taken = ["include_str!(\"", "include_bytes!(\"", "#[path = \""];
                let paths = taken.iter().filter_map(|by| line.split_once(by).map(|(_, rest)| rest));
                for taken in paths {
                    let up = taken.split('/').take_while(|part| *part == "..").count();
                    if up > depth {
                        found.push(format!("{}:{}: leaves its crate", path.display(), number + 1));
                    }
                }
            }
        }
    }
    nothing(&found);
}

/// Each dependency a manifest names is named by a source of its crate.
#[test]
fn dependencies_are_used() {
    let mut found = Vec::new();
    for (manifest, text) in files("", "Cargo.toml") {
        let folder = manifest.parent().unwrap();
        // The sources of packages further down are theirs.
        let below: Vec<_> = files("", "Cargo.toml")
            .into_iter()
            .map(|(other, _)| other.parent().unwrap().to_owned())
            .filter(|other| other != folder && other.starts_with(folder))
            .collect();
        if folder == Path::new("") {
            continue;
        }
        let mut sources: String = files(folder, ".rs")
            .into_iter()
            .filter(|(path, _)| !below.iter().any(|other| path.starts_with(other)))
            .map(|(path, text)| taken_by(&path, &text) + &text)
            .collect();
        if sources.contains("README.md\")]") {
            // Its programs are compiled with the sources.
            sources += &fs::read_to_string(root().join("README.md")).unwrap();
        }
        for name in dependencies(&text) {
            let word = known_as(&name);
            let used = sources.match_indices(&word).any(|(at, _)| {
                let ends = |c: Option<char>| !c.is_some_and(|c| c == '_' || c.is_alphanumeric());
                ends(sources[..at].chars().next_back())
                    && ends(sources[at + word.len()..].chars().next())
            });
            if !used {
                found.push(format!("{}: {name} is not used", manifest.display()));
            }
        }
    }
    nothing(&found);
}

/// The sources that a source takes from elsewhere by `#[path]`.
fn taken_by(path: &Path, text: &str) -> String {
    let taken =
        text.lines().filter_map(|line| line.strip_prefix("#[path = \"")?.strip_suffix("\"]"));
    let folder = root().join(path.parent().unwrap());
    taken.map(|other| fs::read_to_string(folder.join(other)).unwrap()).collect()
}

/// The name by which sources know a package.
fn known_as(package: &str) -> String {
    match package {
        "rustls-webpki" => "webpki".to_owned(),
        _ => package.replace('-', "_"),
    }
}

/// The names in the sections of dependencies.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.ends_with("dependencies]") && !section.starts_with("workspace");
        } else if let Some((name, _)) = line.split_once(['=', '.']).filter(|_| inside) {
            names.insert(name.trim().to_owned());
        }
    }
    names
}
