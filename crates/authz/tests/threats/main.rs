//! The cases of `docs/threats.md` that the core answers, and more of their kind. A test of case NNN is named `tNNN_...`.

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod credential;
#[cfg(test)]
mod differential;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod path;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod shadow;
#[cfg(test)]
mod support;
#[cfg(test)]
mod target;
#[cfg(test)]
mod token_claims;
#[cfg(test)]
mod token_crypto;
#[cfg(test)]
mod token_structure;
#[cfg(test)]
mod uses;
