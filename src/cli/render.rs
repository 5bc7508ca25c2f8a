//! `scoregate render`: routes and policies for proxies.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use scoregate_authz::{AuthMode, ServiceName};

use super::apply::Present;
use super::connection::ConnectionArgs;
use super::exit::CliError;
use super::output::hint;
use super::service::all_services;
use crate::policy_file::{DeclaredService, declared};
use crate::render::{self, ClusterNames, EnvoyForm, EnvoyVersion, IstioProxy, ModelAddress, ModelServices};

/// Commands about proxies.
///
/// Routes of one host are in the order in which a gate finds services by host and path: the longest path first. The path
/// prefix `/api/v1/service/NAME` is cut off, as Azure ML's ingress did; others reach the model as they came.
#[derive(Debug, Subcommand)]
pub(super) enum RenderCommand {
    /// A complete configuration of Envoy: listener, filters, routes that name their service, clusters
    Envoy(EnvoyArgs),
    /// VirtualServices, and the AuthorizationPolicy by which Istio asks a gate about all that passes the gateway
    Istio(IstioArgs),
    /// HTTPRoutes, and for each the SecurityPolicy that names its service to the gate
    EnvoyGateway(EnvoyGatewayArgs),
}

impl RenderCommand {
    /// Carries it out.
    ///
    /// # Errors
    /// What would leave a model open or mean another, and what the files, the workspace or the output have against it.
    pub(super) async fn run(self) -> Result<(), CliError> {
        let text = match self {
            Self::Envoy(args) => {
                let services = args.services.read().await?;
                let form = args.form.into();
                render::envoy(&services, form, args.envoy_version, &args.model, &args.models.into())?
            }
            Self::Istio(args) => {
                let proxy = IstioProxy {
                    selector: args.gateway_label,
                    namespace: args.gateway_namespace.unwrap_or_else(|| args.cluster.namespace.clone()),
                    provider: args.provider,
                };
                render::istio(&args.services.read().await?, &args.cluster.into(), &proxy)?
            }
            Self::EnvoyGateway(args) => {
                render::envoy_gateway(&args.services.read().await?, &args.cluster.into())?
            }
        };
        Ok(io::stdout().lock().write_all(text.as_bytes())?)
    }
}

/// Flags of `render envoy`.
#[derive(Debug, Args)]
pub(super) struct EnvoyArgs {
    #[command(flatten)]
    services: ServicesArgs,
    /// What it is for; each is a file in envoy/
    #[arg(long = "for", value_enum, value_name = "FORM", default_value_t = Form::Sidecar)]
    form: Form,
    /// Refuse to write what this version of Envoy does not know
    #[arg(long, value_name = "X.Y")]
    envoy_version: Option<EnvoyVersion>,
    /// Address of the model server, where there is one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5001")]
    model: ModelAddress,
    #[command(flatten)]
    models: ModelsArgs,
}

/// What an Envoy is for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    /// One model server beside it
    Sidecar,
    /// The same, but nobody is refused: for a first look in production
    Shadow,
    /// The ingress of a cluster, with a gate in the same pod: TLS, and each model behind a Service of its own
    AksIngress,
    /// A container group: TLS, and one service of ACI at `/score`
    Aci,
}

impl From<Form> for EnvoyForm {
    fn from(form: Form) -> Self {
        match form {
            Form::Sidecar => Self::Sidecar,
            Form::Shadow => Self::Shadow,
            Form::AksIngress => Self::AksIngress,
            Form::Aci => Self::Aci,
        }
    }
}

/// Flags of `render istio`.
#[derive(Debug, Args)]
pub(super) struct IstioArgs {
    #[command(flatten)]
    services: ServicesArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// A label of the gateway's pods
    #[arg(long, value_name = "KEY=VALUE", default_value = "istio=scoregate-ingress", value_parser = label)]
    gateway_label: (String, String),
    /// Namespace of the gateway's pods [default: that of the routes]
    #[arg(long, value_name = "NAME")]
    gateway_namespace: Option<String>,
    /// The extension provider in the mesh's configuration; one that is not there refuses everything
    #[arg(long, value_name = "NAME", default_value = "scoregate")]
    provider: String,
}

/// Flags of `render envoy-gateway`.
#[derive(Debug, Args)]
pub(super) struct EnvoyGatewayArgs {
    #[command(flatten)]
    services: ServicesArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Names in a cluster.
#[derive(Debug, Args)]
struct ClusterArgs {
    /// Namespace of the routes
    #[arg(long, value_name = "NAME", default_value = "scoregate")]
    namespace: String,
    /// The Gateway, in that namespace
    #[arg(long, value_name = "NAME", default_value = "ingress")]
    gateway: String,
    #[command(flatten)]
    models: ModelsArgs,
}

impl From<ClusterArgs> for ClusterNames {
    fn from(args: ClusterArgs) -> Self {
        Self { namespace: args.namespace, gateway: args.gateway, models: args.models.into() }
    }
}

/// Where models are in a cluster.
#[derive(Debug, Args)]
struct ModelsArgs {
    /// Namespace of the models' Services, each of which has the name of its service
    #[arg(long, value_name = "NAME", default_value = "models")]
    model_namespace: String,
    /// Port of the models' Services
    #[arg(long, value_name = "PORT", default_value_t = 80, value_parser = clap::value_parser!(u16).range(1..))]
    model_port: u16,
}

impl From<ModelsArgs> for ModelServices {
    fn from(args: ModelsArgs) -> Self {
        Self { namespace: args.model_namespace, port: args.model_port }
    }
}

/// Which services.
#[derive(Debug, Args)]
struct ServicesArgs {
    /// Services to write routes for [default: all]
    #[arg(value_name = "SERVICE")]
    names: Vec<ServiceName>,
    /// Take them from a policy file, a directory of such, or `-`, instead of a workspace; may be repeated
    #[arg(short, long = "file", value_name = "FILE|DIR")]
    file: Vec<PathBuf>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

impl ServicesArgs {
    /// In the order of their names, so that the same services make the same text.
    async fn read(&self) -> Result<Vec<DeclaredService>, CliError> {
        let mut services = if self.file.is_empty() {
            let (client, _) = self.connection.open().await?;
            let services = all_services(&client, None).await?;
            services.iter().map(|service| Present::read(service).try_into()).collect::<Result<Vec<_>, _>>()?
        } else {
            declared(&self.file)?
        };
        if let Some(name) =
            self.names.iter().find(|name| !services.iter().any(|service| service.name == **name))
        {
            return Err(CliError::failed(format!("there is no service `{name}`")));
        }
        services.sort_by(|one, other| one.name.cmp(&other.name));
        services.retain(|service| self.names.is_empty() || self.names.contains(&service.name));
        for service in services.iter().filter(|service| service.auth_mode == AuthMode::Disabled) {
            hint(&format!("warning: `{}` is open: whoever reaches its route may score", service.name));
        }
        Ok(services)
    }
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let allowed = |text: &str| {
        let characters = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        !text.is_empty() && text.bytes().all(characters)
    };
    let pair = text.split_once('=').filter(|(key, value)| allowed(key) && allowed(value));
    pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or("a label is `key=value`")
}
