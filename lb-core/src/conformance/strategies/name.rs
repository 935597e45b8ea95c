//! Names: every grammar of [`model`](crate::model), from its shortest to its longest.

use proptest::prelude::*;
use proptest::strategy::SBoxedStrategy;

use super::written;
use crate::model::{
    AbsolutePath, AppName, BackendName, CertificatePem, ClusterId, ContainerName, CookieName,
    DomainName, EnvName, FileName, HeaderName, HealthPath, HostId, ImageDigest, ImageRef,
    InstanceId, LabelKey, LabelValue, NetworkName, PathPrefix, PolicyName, PortName, Revision,
    ServerName, Signal, UserName, VolumeName,
};

/// One strategy for each grammar: short values that often meet each other, then the whole grammar.
macro_rules! names {
    ($($(#[$doc:meta])* $function:ident: $type:ident = $($pattern:literal)+;)*) => {$(
        $(#[$doc])*
        pub fn $function() -> SBoxedStrategy<$type> {
            written(&[$($pattern),+])
        }
    )*};
}

names! {
    /// Clusters.
    cluster_id: ClusterId = "[a-c]" "[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?";
    /// Hosts.
    host_id: HostId = "h[1-9]" "[a-z0-9]{1,9}(\\.[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?){0,4}" "[a-z0-9]{63}";
    /// Apps.
    app_name: AppName = "[a-c]" "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?";
    /// Ports of an app.
    port_name: PortName = "[a-c]" "[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?";
    /// Scale policies of a platform.
    policy_name: PolicyName = "[a-c]" "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?";
    /// Containers, most of them no instance's: for those see [`instance_id`].
    container_name: ContainerName = "[a-c]" "[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?(\\.[a-z0-9]{1,30}){0,3}";
    /// Networks.
    network_name: NetworkName = "[a-c]" "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?(\\.[a-z0-9]{1,30})?";
    /// Backends.
    backend_name: BackendName = "[a-c]\\.[a-c]" "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?(\\.[a-z0-9]{1,15}){0,2}";
    /// Servers.
    server_name: ServerName = "s[1-9]" "[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?(\\.[a-z0-9]{1,30}){0,3}";
    /// Host names, wildcards among them.
    domain_name: DomainName = "[a-b]" "(\\*\\.)?[a-b](\\.[a-b]){0,2}"
        "(\\*\\.)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\\.[a-z0-9]{1,63}){0,2}";
    /// Paths in whole segments.
    path_prefix: PathPrefix = "/" "(/[a-b]){1,3}" "(/\\.?[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,40}){1,5}";
    /// Paths to ask in health checks.
    health_path: HealthPath = "/" "(/\\.?[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,9}){1,4}/?(\\?[A-Za-z0-9._~=&-]{0,30})?";
    /// Environment variables.
    env_name: EnvName = "[A-C]" "[A-Za-z_][A-Za-z0-9_]{0,127}" "[a-z]{1,9}(\\.[a-z-]{1,9}){1,3}" "[^=\\x00]{1,60}" "[a-z]{255}";
    /// Keys of labels.
    label_key: LabelKey = "[a-c]" "[A-Za-z0-9._/-]{1,63}";
    /// Values of labels.
    label_value: LabelValue = "[a-c]" "[A-Za-z0-9._/:-]{0,63}";
    /// Header fields.
    header_name: HeaderName = "x-[a-c]" "[a-z0-9._-]{1,64}";
    /// Cookies.
    cookie_name: CookieName = "[a-c]" "[A-Za-z0-9_-]{1,64}";
    /// Users, with or without a group.
    user_name: UserName = "[a-c]" "[A-Za-z0-9_.-]{1,32}(:[A-Za-z0-9_.-]{1,31})?";
    /// Signals.
    signal: Signal = "SIGTERM" "SIG(INT|QUIT|USR1|WINCH)" "SIG(RTMIN(\\+[1-9])?|RTMAX(-[1-9])?|CLD|POLL|STKFLT)";
    /// Absolute paths, never the root.
    absolute_path: AbsolutePath = "/[a-c]" "(/\\.?[A-Za-z0-9+=@^_~\\[\\]-][A-Za-z0-9.+=@^_~\\[\\]-]{0,40}){1,5}";
    /// Volumes an engine keeps.
    volume_name: VolumeName = "[a-c]" "[A-Za-z0-9][A-Za-z0-9._-]{0,63}";
    /// Files beside a configuration.
    file_name: FileName = "[a-c]" "[a-z0-9_-][a-z0-9._-]{0,63}";
    /// Images: with and without registry, tag and digest.
    image_ref: ImageRef = "[a-c]:[1-3]"
        "((registry\\.example\\.org|localhost|[a-z0-9]{1,8}\\.[a-z]{2}):[1-9][0-9]{0,3}/|docker\\.io/)?[a-z0-9]{1,9}(([._]|__|-{1,3})[a-z0-9]{1,5})?"
        "[a-z0-9]{1,9}(/[a-z0-9]{1,9}(([._]|__|-{1,3})[a-z0-9]{1,5})?){1,3}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?(@sha256:[0-9a-f]{64})?";
    /// Contents of images.
    image_digest: ImageDigest = "sha256:0{63}[1-3]" "sha256:[0-9a-f]{64}";
    /// Revisions of apps.
    revision: Revision = "0{9}[1-3]" "[0-9a-f]{10}";
}

/// Identities of instances; slots and incarnations over their whole range, small ones often.
pub fn instance_id() -> SBoxedStrategy<InstanceId> {
    let number = || prop_oneof![0..4_u32, any::<u32>()];
    (app_name(), revision(), number(), number())
        .prop_map(|(app, revision, slot, incarnation)| InstanceId {
            app,
            revision,
            slot,
            incarnation,
        })
        .sboxed()
}

/// A certificate and its key in form only (RFC 7468): what they hold is no certificate, and a balancer that
/// loads it must refuse it. Give such a balancer real ones: `table(Just(certificate))`.
pub fn certificate() -> SBoxedStrategy<CertificatePem> {
    let base64 =
        || written::<String>(&["[a-c]{4}", "([A-Za-z0-9+/]{64}\n){0,3}[A-Za-z0-9+/]{4,40}={0,2}"]);
    let key = written::<String>(&["PRIVATE KEY", "(EC|RSA) PRIVATE KEY"]);
    (base64(), key, base64())
        .prop_map(|(chain, label, key)| {
            let block = |label: &str, text: &str| {
                format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
            };
            let pem = block("CERTIFICATE", &chain) + &block(&label, &key);
            CertificatePem::new(pem).unwrap_or_else(|e| unreachable!("in form: {e}"))
        })
        .sboxed()
}

/// Opaque text as a variable or an argument may hold: anything but NUL.
pub fn text() -> SBoxedStrategy<String> {
    written(&["[a-c]{0,3}", "[^\\x00]{0,40}"])
}
