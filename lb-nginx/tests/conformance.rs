//! The suites of `ConfigRenderer` and `LoadBalancer` on NGINX: as a process and in a container.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use lb_core::conformance::renderer::RendererSetup;
use lb_core::conformance::{Wire, Wrapped};
use lb_core::{ConfigRenderer, ContainerName, ImageRef, LoadBalancer};
use lb_docker::DockerRuntime;
use lb_nginx::{NginxBalancer, NginxBalancerBuilder, NginxRenderer};
use lb_test_support::{Loopback, cluster_of, variable};

#[derive(Debug)]
struct Templates;

impl RendererSetup for Templates {
    fn renderer(&self) -> Arc<dyn ConfigRenderer> {
        Arc::new(NginxRenderer::new())
    }
}

mod renderer {
    lb_core::config_renderer_suite! { setup: super::Templates }
}

mod renderer_over_the_wire {
    use super::*;

    lb_core::config_renderer_suite! {
        setup: Wrapped::<_, dyn ConfigRenderer>::new(Templates, |inner| Arc::new(Wire::new(inner))),
    }
}

fn builder(directory: &Path) -> NginxBalancerBuilder {
    let bind = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let renderer = NginxRenderer::builder().bind_address(bind).build().unwrap();
    let workers = 2.try_into().unwrap();
    NginxBalancer::builder(directory).renderer(Arc::new(renderer)).workers(workers)
}

fn as_process(directory: &Path) -> Arc<dyn LoadBalancer> {
    Arc::new(builder(directory).as_process(variable("LB_TEST_NGINX")).build().unwrap())
}

/// In a container of a cluster of its own on Docker.
fn in_container(directory: &Path) -> Arc<dyn LoadBalancer> {
    let cluster = cluster_of(directory);
    let endpoint = variable("LB_TEST_DOCKER").parse().unwrap();
    let runtime = DockerRuntime::builder(cluster.clone()).endpoint(endpoint).build().unwrap();
    let image = ImageRef::new(variable("LB_TEST_NGINX_IMAGE")).unwrap();
    let name = ContainerName::new(format!("{cluster}.balancer")).unwrap();
    Arc::new(builder(directory).in_container(Arc::new(runtime), image, name).build().unwrap())
}

mod process {
    use super::*;

    lb_core::load_balancer_suite! {
        setup: Loopback::new(as_process),
        ignore: "needs LB_TEST_NGINX (testbed/up)",
        left_out: {
            nothing_is_open_when_all_is_answered: "the kernel counts connections kept idle, too",
        },
    }
}

mod process_over_the_wire {
    use super::*;

    lb_core::load_balancer_suite! {
        setup: Wrapped::<_, dyn LoadBalancer>::new(Loopback::new(as_process), |inner| {
            Arc::new(Wire::new(inner))
        }),
        ignore: "needs LB_TEST_NGINX (testbed/up)",
        left_out: {
            nothing_is_open_when_all_is_answered: "the kernel counts connections kept idle, too",
        },
    }
}

mod container {
    use super::*;

    lb_core::load_balancer_suite! {
        setup: Loopback::new(in_container),
        ignore: "needs LB_TEST_DOCKER, LB_TEST_NGINX_IMAGE (testbed/up)",
        left_out: {
            nothing_is_open_when_all_is_answered: "the kernel counts connections kept idle, too",
        },
    }
}
