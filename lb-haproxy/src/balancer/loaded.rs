//! What a worker was loaded with and given since, as far as a change without a reload builds on it.

use std::collections::BTreeMap;

use lb_core::BackendName;
use xxhash_rust::xxh3::xxh3_64;

/// `defaults` sections by name, with all their lines.
pub(crate) type Shapes = BTreeMap<String, String>;

/// What a worker has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Names the load; stands in `description`.
    pub mark: String,
    /// Names all that takes a reload to change. Empty: it is not known.
    pub frame: String,
    /// Backends, by what their sections say. Of a running worker also those that left the table: without a route and
    /// without servers they harm nobody, and are there when they come back.
    pub sections: BTreeMap<BackendName, String>,
    /// What backends can be added from.
    pub shapes: Shapes,
}

impl Loaded {
    /// Whether a worker that has this can get that without a reload.
    pub(crate) fn becomes(
        &self,
        frame: &str,
        sections: &BTreeMap<BackendName, String>,
        addable: &BTreeMap<BackendName, Shape>,
    ) -> bool {
        let can_have = |(name, section): (&BackendName, &String)| match self.sections.get(name) {
            Some(known) => known == section,
            None => addable.get(name).is_some_and(|shape| self.shapes.contains_key(&shape.name)),
        };
        !self.frame.is_empty() && self.frame == frame && sections.iter().all(can_have)
    }
}

/// First words of lines that mean the same in `defaults` as in a backend made from it (manual of 3.4, chapter 4). A
/// stick table does not, and a backend that has one cannot be deleted.
const INHERITED: [&str; 9] = [
    "acl",
    "balance",
    "hash-type",
    "http-check",
    "http-request",
    "http-response",
    "option",
    "retries",
    "timeout",
];

/// A backend's section as `defaults` that it and all that are alike can be made from: `add backend NAME from SHAPE`
/// takes no settings of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Of the section.
    pub name: String,
    /// `http` or `tcp`, by the section it builds upon.
    pub mode: &'static str,
    lines: String,
}

impl Shape {
    /// That of a section that says nothing only this backend can say.
    pub(crate) fn of(backend: &BackendName, section: &str) -> Option<Self> {
        let (head, body) = section.split_once('\n')?;
        let from = head.strip_prefix("backend ")?.strip_prefix(backend.as_str())?;
        let parent = from.strip_prefix(" from ")?.trim();
        let mode = match parent {
            "lb_http" => "http",
            "lb_tcp" => "tcp",
            _ => return None,
        };
        let inherited = |line: &str| match line.split_ascii_whitespace().next() {
            Some(first) => INHERITED.contains(&first),
            None => true,
        };
        if !body.lines().all(inherited) || body.contains(backend.as_str()) {
            return None;
        }
        let name = format!("lb_shape_{:016x}", xxh3_64(format!("{parent}\n{body}").as_bytes()));
        let lines = format!("defaults {name} from {parent}\n{body}");
        Some(Self { name, mode, lines })
    }

    /// Name and lines.
    pub(crate) fn named(&self) -> (String, String) {
        (self.name.clone(), self.lines.clone())
    }

    /// The whole section of a backend made from it.
    pub(crate) fn backend_line(&self, backend: &BackendName) -> String {
        format!("backend {backend} from {}\n", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> BackendName {
        BackendName::new(name).unwrap()
    }

    fn section(backend: &str, lines: &[&str]) -> String {
        let lines: String = lines.iter().flat_map(|line| ["    ", line, "\n"]).collect();
        format!("backend {backend} from lb_http\n{lines}")
    }

    #[test]
    fn backends_that_are_alike_but_in_name_have_one_shape() {
        let lines = ["balance leastconn", "timeout server 5000ms"];
        let shape = |backend| Shape::of(&name(backend), &section(backend, &lines)).unwrap();
        let (shop, blog) = (shape("shop.web"), shape("blog.web"));
        assert_eq!((&shop, shop.mode), (&blog, "http"));
        assert_eq!(
            shop.named().1,
            format!(
                "defaults {} from lb_http\n    balance leastconn\n    timeout server 5000ms\n",
                shop.name
            )
        );
        let other = Shape::of(&name("shop.web"), &section("shop.web", &lines[..1])).unwrap();
        assert_ne!(other.name, shop.name);
        assert_eq!(
            shop.backend_line(&name("shop.web")),
            format!("backend shop.web from {}\n", shop.name)
        );
    }

    #[test]
    fn what_only_one_backend_can_say_has_none() {
        for line in [
            "stick-table type ipv6 size 100k expire 1m store http_req_rate(1m)",
            "dynamic-cookie-key shop.web",
            "http-request deny if { table_http_req_rate(shop.web) ge 5 }",
            "use-server a if TRUE",
            "errorfile 503 /x",
        ] {
            assert_eq!(Shape::of(&name("shop.web"), &section("shop.web", &[line])), None, "{line}");
        }
        let elsewhere = section("shop.web", &["balance leastconn"]).replace("lb_http", "mine");
        assert_eq!(Shape::of(&name("shop.web"), &elsewhere), None);
        assert_eq!(Shape::of(&name("shop.web"), "backend shop.webs from lb_http\n"), None);
    }
}
