variable "name" {
  description = "Begins the name of every bucket, key and role; buckets are named worldwide, so make it yours."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,40}[a-z0-9]$", var.name))
    error_message = "Lower-case letters, digits and hyphens, 3 to 42 of them."
  }
}

variable "registry_prefix" {
  description = "Prefix of the registry in its bucket: publish.registry is s3://NAME-registry/PREFIX."
  type        = string
  default     = "registry"

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", var.registry_prefix))
    error_message = "Path segments of letters, digits, '.', '_' and '-', without a slash at either end."
  }
}

variable "channel" {
  description = "The one channel that the promote role moves."
  type        = string
  default     = "champion"

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,63}$", var.channel))
    error_message = "Lower-case letters, digits and hyphens, at most 64."
  }
}

variable "oidc_provider_arn" {
  description = "ARN of the EKS cluster's OIDC provider; service accounts may then take the roles. Null: none may."
  type        = string
  default     = null

  validation {
    condition     = var.oidc_provider_arn == null || can(regex("^arn:[a-z-]+:iam::[0-9]{12}:oidc-provider/.+$", var.oidc_provider_arn))
    error_message = "Looks like arn:aws:iam::123456789012:oidc-provider/oidc.eks.REGION.amazonaws.com/id/ID."
  }
}

variable "kubernetes_namespace" {
  description = "Namespace of the service accounts cpu, gpu, promote and reader."
  type        = string
  default     = "moelora"
}

variable "instance_profiles" {
  description = "Whether EC2 machines may take the roles too, by instance profiles that are made here."
  type        = bool
  default     = false
}

variable "registry_lock_days" {
  description = "Days for which nobody can delete what the registry holds (object lock, governance mode). 0: no lock; it cannot be added to a bucket that exists."
  type        = number
  default     = 0

  validation {
    condition     = var.registry_lock_days >= 0 && floor(var.registry_lock_days) == var.registry_lock_days
    error_message = "A whole number of days, or 0."
  }
}

variable "noncurrent_days" {
  description = "Days that overwritten or deleted data stays in the two buckets of DVC. Erased patients' data is gone after that, no sooner."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "A whole number of days, at least 1."
  }
}

variable "sources" {
  description = "Places in buckets of yours where data arrives, as BUCKET/PREFIX: the role cpu may list and read them."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for place in var.sources : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_.=-]+)+$", place))])
    error_message = "BUCKET/PREFIX, without s3:// and without a slash at the end."
  }
}

variable "source_keys" {
  description = "ARNs of the KMS keys with which those buckets are encrypted, if they are."
  type        = list(string)
  default     = []
}
