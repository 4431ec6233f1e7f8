//! The entry: from headers to a principal.

use http::HeaderMap;
use record::{
    Actor, ActorAgent, ActorKind, Asserted, Clock, Credential, CredentialKind, Principal, PrincipalKind,
    Proof, SessionId, Timestamp,
};
use registry::TokenKey;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

use crate::bearer;
use crate::checked::Checked;
use crate::ended::EndedSessions;
use crate::logins::Logins;
use crate::oidc::OidcProvider;
use crate::tokens::{self, OwnSession, TOKEN_PREFIX};
use crate::virtual_keys::VirtualKeys;

/// What identity is built from.
pub struct IdentityConfig {
    pub public_url: String,
    pub providers: Vec<OidcProvider>,
    pub token_key: TokenKey,
    pub keys: Arc<VirtualKeys>,
    pub ended: Arc<EndedSessions>,
    pub logins: Arc<Logins>,
    pub clock: Arc<dyn Clock>,
}

/// Answers who asks.
pub struct Identity {
    pub(crate) public_url: String,
    pub(crate) providers: Vec<OidcProvider>,
    pub(crate) token_key: TokenKey,
    pub(crate) keys: Arc<VirtualKeys>,
    pub(crate) ended: Arc<EndedSessions>,
    pub(crate) logins: Arc<Logins>,
    pub(crate) clock: Arc<dyn Clock>,
    checked: Checked,
}

/// A principal, how it was proved, and what its credential is bound to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identified {
    pub principal: Principal,
    pub credential: Credential,
    /// How we know the groups and the name: a provider's word is verified, a key's is its issuer's.
    pub proof: Proof,
    /// The virtual key behind it, whose revocation ends it.
    pub key: Option<String>,
    /// The sign-in behind it, whose end ends it.
    pub login: Option<String>,
    /// The only connection that the credential may use.
    pub connection: Option<String>,
    /// The session that the credential carries.
    pub session: Option<SessionId>,
    /// What counts as one and the same credential for sessions.
    pub session_key: String,
    /// Present where the session is the credential's own.
    pub own: Option<OwnSession>,
    pub expires: Timestamp,
}

impl Identity {
    /// Assembles it; nothing is fetched yet.
    pub fn new(config: IdentityConfig) -> Self {
        Self {
            public_url: config.public_url,
            providers: config.providers,
            token_key: config.token_key,
            keys: config.keys,
            ended: config.ended,
            logins: config.logins,
            clock: config.clock,
            checked: Checked::default(),
        }
    }

    /// Who sends these headers.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Identified, Stranger> {
        self.identify_token(bearer::token(headers)?).await
    }

    /// Who has this token.
    pub async fn identify_token(&self, token: &str) -> Result<Identified, Stranger> {
        let now = self.clock.now();
        let who = match self.checked.find(token, &self.keys, now) {
            Some(who) => who,
            None => {
                let who = self.check(token).await?;
                self.checked.remember(token, &who, now);
                who
            }
        };
        if who.login.as_ref().is_some_and(|login| !self.logins.is_live(login, now)) {
            return Err(Stranger::SignedOut);
        }
        match who.session {
            Some(session) if self.ended.contains(session) => Err(Stranger::SessionEnded),
            _ => Ok(who),
        }
    }

    /// Whether somebody who was identified before may still ask: no key revoked, no sign-in over, no session
    /// ended. That a token's time is over does not matter: what it asked for was asked in time.
    pub fn still(&self, who: &Identified) -> Result<(), Stranger> {
        let now = self.clock.now();
        let own_key = (who.credential.kind == CredentialKind::Key).then_some(&who.credential.id);
        for id in who.key.iter().chain(own_key) {
            if !self.keys.by_id(id).is_some_and(|key| key.is_live(now)) {
                return Err(Stranger::Revoked);
            }
        }
        if who.login.as_ref().is_some_and(|login| !self.logins.is_live(login, now)) {
            return Err(Stranger::SignedOut);
        }
        match who.session {
            Some(session) if self.ended.contains(session) => Err(Stranger::SessionEnded),
            _ => Ok(()),
        }
    }

    async fn check(&self, token: &str) -> Result<Identified, Stranger> {
        if let Some(ours) = token.strip_prefix(TOKEN_PREFIX) {
            return tokens::identify(self, ours);
        }
        let peeked = bearer::peek(token)?;
        if let Some(key) = self.keys.by_email(&peeked.iss) {
            return key.identify(token, &peeked, &self.public_url, self.clock.now());
        }
        match self.providers.iter().find(|provider| provider.issuer() == peeked.iss) {
            Some(provider) => provider.identify(token, &peeked, self.clock.now()).await,
            None => Err(Stranger::UnknownIssuer(peeked.iss)),
        }
    }

    /// The providers that somebody may sign in at.
    pub fn providers(&self) -> &[OidcProvider] {
        &self.providers
    }

    /// Who is signed in.
    pub fn logins(&self) -> &Arc<Logins> {
        &self.logins
    }

    /// Fetches every provider's keys; the names of those that could not be reached, with the reason.
    pub async fn warm(&self) -> Vec<(String, String)> {
        let mut away = Vec::new();
        for provider in &self.providers {
            if let Err(why) = provider.refresh(self.clock.now()).await {
                away.push((provider.name().to_owned(), why));
            }
        }
        away
    }

    /// Whether somebody can be identified: every provider's keys are there.
    pub async fn ready(&self) -> bool {
        for provider in &self.providers {
            if !provider.has_keys().await && provider.refresh(self.clock.now()).await.is_err() {
                return false;
            }
        }
        true
    }
}

impl Identified {
    /// The same, as the record says it.
    pub fn actor(&self) -> Actor {
        let principal = &self.principal;
        let said =
            |value: &str, proof| (!value.is_empty()).then(|| Asserted { value: value.to_owned(), proof });
        let answerable =
            if principal.on_behalf_of.is_empty() { &principal.id } else { &principal.on_behalf_of };
        let mut act_chain =
            vec![if principal.email.is_empty() { answerable.clone() } else { principal.email.clone() }];
        if !principal.agent.is_empty() {
            act_chain.push(principal.agent.clone());
        }
        Actor {
            kind: match principal.kind {
                PrincipalKind::Person => ActorKind::Person,
                PrincipalKind::Service => ActorKind::Service,
                PrincipalKind::Agent => ActorKind::Agent,
            },
            id: said(&principal.id, Proof::Verified),
            email: said(&principal.email, self.proof),
            name: said(&principal.name, self.proof),
            groups: Some(Asserted { value: principal.groups.clone(), proof: self.proof }),
            idp: Some(principal.idp.clone()),
            agent: (!principal.agent.is_empty())
                .then(|| ActorAgent { name: principal.agent.clone(), proof: Proof::Asserted }),
            act_chain,
            credential: Some(self.credential.clone()),
        }
    }
}

pub(crate) fn credential(kind: CredentialKind, id: String) -> Credential {
    Credential { kind, id }
}

/// Why nobody was identified. The words are for the caller and quote no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stranger {
    NoCredential,
    TwoCredentials,
    NotBearer,
    Opaque,
    Malformed,
    UnknownIssuer(String),
    Algorithm,
    Signature,
    Expired,
    NotYet,
    Audience,
    AuthorizedParty,
    LogoutToken,
    MissingClaim(&'static str),
    TooLong,
    Revoked,
    SessionEnded,
    SignedOut,
    ProviderAway(String),
}

impl Stranger {
    /// A word for counters and the auth record.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoCredential => "no_credential",
            Self::TwoCredentials => "two_credentials",
            Self::NotBearer => "not_bearer",
            Self::Opaque => "opaque_token",
            Self::Malformed => "malformed_token",
            Self::UnknownIssuer(_) => "unknown_issuer",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYet => "not_yet_valid",
            Self::Audience => "audience",
            Self::AuthorizedParty => "authorized_party",
            Self::LogoutToken => "logout_token",
            Self::MissingClaim(_) => "missing_claim",
            Self::TooLong => "life_too_long",
            Self::Revoked => "revoked",
            Self::SessionEnded => "session_ended",
            Self::SignedOut => "signed_out",
            Self::ProviderAway(_) => "provider_away",
        }
    }
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCredential => f.write_str("the request carries no credential"),
            Self::TwoCredentials => f.write_str("the request carries more than one Authorization header"),
            Self::NotBearer => f.write_str("the Authorization header is not 'Bearer <token>'"),
            Self::Opaque => f.write_str(
                "the token is opaque; send a JWT access or ID token of a configured identity provider, not a Google or opaque access token",
            ),
            Self::Malformed => f.write_str("the token is not a well-formed JWT"),
            Self::UnknownIssuer(issuer) => {
                let issuer: String = issuer.chars().filter(|c| !c.is_control()).take(120).collect();
                write!(f, "the token's issuer '{issuer}' is not configured here")
            }
            Self::Algorithm => f.write_str("the token is signed with an algorithm that is not allowed"),
            Self::Signature => f.write_str("the token's signature does not match its issuer's keys"),
            Self::Expired => f.write_str("the token has expired"),
            Self::NotYet => f.write_str("the token is not valid yet"),
            Self::Audience => f.write_str("the token was issued for another audience"),
            Self::AuthorizedParty => f.write_str("the token has several audiences and another authorized party (azp)"),
            Self::LogoutToken => f.write_str("the token is a logout token"),
            Self::MissingClaim(claim) => write!(f, "the token has no '{claim}' claim"),
            Self::TooLong => f.write_str("the token is valid for more than an hour, which a self-signed one may not be"),
            Self::SignedOut => f.write_str("the sign-in of this token is over; run 'hansard login' again"),
            Self::SessionEnded => f.write_str("the session of this token was ended; get a new token"),
            Self::Revoked => f.write_str("the key was revoked or has expired"),
            Self::ProviderAway(name) => write!(f, "the identity provider '{name}' can't be reached to check the token; try again"),
        }
    }
}

impl std::error::Error for Stranger {}
