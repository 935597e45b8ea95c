//! The apps of a story, and what is asked for of each.

use std::num::NonZeroU16;

use lb_core::{
    App, AppSpec, ByteSize, Canary, CertificatePem, Check, HealthPath, ImageRef, Percent, Port,
    Replicas, Result,
};

use super::bounds::{DRAIN, READY_WITHIN, REPLACE_AFTER};

/// The variable by which instances of a campaign are found: its value is the cluster's name.
pub const MARK: &str = "LB_CAMPAIGN";
/// Where an instance serves HTTP.
const HTTP: NonZeroU16 = NonZeroU16::new(8080).unwrap();
/// Where an instance sends raw bytes back.
const RAW: NonZeroU16 = NonZeroU16::new(9000).unwrap();
/// Memory of an instance: less than what it is told to hold when it shall run out.
const MEMORY: ByteSize = ByteSize::mib(64);
/// Certificates by turns, both for [`TLS_HOST`].
pub const CERTIFICATES: [&str; 2] = [
    include_str!("../../../../testbed/support/data/a.pem"),
    include_str!("../../../../testbed/support/data/a-renewed.pem"),
];
/// The name in both.
pub const TLS_HOST: &str = "a.test.example";
/// Milliseconds that do not pass.
const NEVER: &str = "86400000";
/// Share of the requests for a version on trial.
const TRIAL: u8 = 30;

/// An app of the story by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub u32);

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "app{}", self.0)
    }
}

/// What an app speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTTP by host name on the port all share.
    Web,
    /// The same with TLS on a port of its own.
    Tls,
    /// Raw bytes on a port of its own.
    Raw,
}

/// What is wrong with a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It exits before it listens.
    Exits,
    /// It never says that it is ready, or never listens.
    NeverReady,
    /// It serves, and exits after a second or so.
    Crashes,
}

/// What is asked for of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub name: Name,
    pub kind: Kind,
    pub version: u32,
    pub flaw: Option<Flaw>,
    pub replicas: u32,
    /// Whether the version is on trial beside the one before.
    pub trial: bool,
    /// Which of its host names it answers to.
    pub route: u32,
    /// Which certificate it shows.
    pub certificate: usize,
    /// The outside port, counted from the first of the campaign's.
    pub port: u16,
}

/// What all apps of a campaign share.
#[derive(Debug, Clone)]
pub struct Common {
    pub image: ImageRef,
    pub cluster: String,
    /// The first of the outside ports.
    pub first_port: u16,
    /// Whether instances are held to their memory.
    pub limits: bool,
}

impl Wanted {
    /// The host name it answers to.
    pub fn host(&self) -> String {
        match self.kind {
            Kind::Tls => TLS_HOST.to_owned(),
            Kind::Web | Kind::Raw => format!("r{}.{}.test", self.route, self.name),
        }
    }

    /// As it shows in answers.
    pub fn shown(&self) -> String {
        shown(self.version)
    }

    /// The app as it is deployed.
    pub fn app(&self, common: &Common) -> Result<App> {
        let mut spec = AppSpec::new(self.name.to_string().parse()?, common.image.clone());
        let mut set = |name: &str, value: String| -> Result<()> {
            spec.env.insert(name.parse()?, value);
            Ok(())
        };
        set("VERSION", self.shown())?;
        set(MARK, common.cluster.clone())?;
        match self.flaw {
            None => {}
            Some(Flaw::Exits) => set("EXIT_AFTER_MS", "0".into())?,
            // Bytes on an open port are all that a TCP check asks for.
            Some(Flaw::NeverReady) if self.kind == Kind::Raw => {
                set("START_DELAY_MS", NEVER.into())?;
            }
            Some(Flaw::NeverReady) => set("READY_DELAY_MS", NEVER.into())?,
            Some(Flaw::Crashes) => set("EXIT_AFTER_MS", "1200".into())?,
        }
        if self.kind == Kind::Raw {
            set("PORT", "0".into())?;
            set("TCP_PORT", RAW.to_string())?;
            set("TCP_HELLO", "1".into())?;
        }
        spec.ports.insert("main".parse()?, self.port(common)?);
        spec.replicas = Replicas::fixed(self.replicas);
        spec.stop.drain = DRAIN;
        spec.rollout.ready_within = READY_WITHIN;
        spec.rollout.canary = match self.trial {
            true => {
                Some(Canary { weight: Percent::new(TRIAL)?, instances: std::num::NonZeroU32::MIN })
            }
            false => None,
        };
        spec.resources.memory = common.limits.then_some(MEMORY);
        App::new(spec)
    }

    fn port(&self, common: &Common) -> Result<Port> {
        let mut port = match self.kind {
            Kind::Raw => Port::tcp(RAW),
            Kind::Web | Kind::Tls => Port::http(HTTP),
        };
        port.health.replace_after = REPLACE_AFTER;
        port.outside = NonZeroU16::new(common.first_port + self.port);
        if self.kind != Kind::Raw {
            port.hosts.insert(self.host().parse()?);
            port.health.check = Check::Http(HealthPath::new("/healthz")?);
        }
        if self.kind == Kind::Tls {
            let pem = CERTIFICATES[self.certificate % CERTIFICATES.len()];
            port.tls = Some(CertificatePem::new(pem)?);
        }
        Ok(port)
    }
}

/// A version as it shows in answers.
pub fn shown(version: u32) -> String {
    format!("v{version}")
}
