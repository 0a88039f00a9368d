# Who may do what. The rights in S3 are the files of infra/s3, the same that are tested on a real server;
# the rights on keys follow from them.

locals {
  # Role, bucket, and its policy in infra/s3.
  grants = {
    cpu-raw          = { role = "cpu", bucket = "raw", policy = "dvc" }
    cpu-shared       = { role = "cpu", bucket = "shared", policy = "dvc" }
    cpu-registry     = { role = "cpu", bucket = "registry", policy = "publisher" }
    gpu-shared       = { role = "gpu", bucket = "shared", policy = "dvc" }
    gpu-registry     = { role = "gpu", bucket = "registry", policy = "reader" }
    promote-registry = { role = "promote", bucket = "registry", policy = "promoter" }
    reader-registry  = { role = "reader", bucket = "registry", policy = "reader" }
  }

  roles = toset([for grant in local.grants : grant.role])

  # Issuer of the cluster's tokens, without https://.
  oidc_issuer = var.oidc_provider_arn == null ? "" : split("oidc-provider/", var.oidc_provider_arn)[1]
}

data "aws_iam_policy_document" "trust" {
  for_each = local.roles

  dynamic "statement" {
    for_each = var.oidc_provider_arn == null ? [] : [var.oidc_provider_arn]

    content {
      sid     = "ServiceAccount"
      actions = ["sts:AssumeRoleWithWebIdentity"]

      principals {
        type        = "Federated"
        identifiers = [statement.value]
      }

      condition {
        test     = "StringEquals"
        variable = "${local.oidc_issuer}:sub"
        values   = ["system:serviceaccount:${var.kubernetes_namespace}:${each.key}"]
      }

      condition {
        test     = "StringEquals"
        variable = "${local.oidc_issuer}:aud"
        values   = ["sts.amazonaws.com"]
      }
    }
  }

  dynamic "statement" {
    for_each = var.instance_profiles ? ["ec2.amazonaws.com"] : []

    content {
      sid     = "Machine"
      actions = ["sts:AssumeRole"]

      principals {
        type        = "Service"
        identifiers = [statement.value]
      }
    }
  }
}

resource "aws_iam_role" "this" {
  for_each           = local.roles
  name               = "${var.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.trust[each.key].json

  lifecycle {
    precondition {
      condition     = var.oidc_provider_arn != null || var.instance_profiles
      error_message = "Nobody could take the roles: set oidc_provider_arn, instance_profiles or both."
    }
  }
}

resource "aws_iam_instance_profile" "this" {
  for_each = var.instance_profiles ? local.roles : []
  name     = "${var.name}-${each.key}"
  role     = aws_iam_role.this[each.key].name
}

resource "aws_iam_role_policy" "bucket" {
  for_each = local.grants
  name     = each.value.bucket
  role     = aws_iam_role.this[each.value.role].id

  policy = replace(replace(replace(
    file("${path.module}/../s3/${each.value.policy}.json"),
    "BUCKET", aws_s3_bucket.this[each.value.bucket].bucket),
    "PREFIX", var.registry_prefix),
  "CHANNEL", var.channel)
}

data "aws_iam_policy_document" "key" {
  for_each = local.grants

  statement {
    sid       = "UseTheBucketsKey"
    actions   = each.value.policy == "reader" ? ["kms:Decrypt"] : ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.bucket[each.value.bucket].arn]
  }
}

resource "aws_iam_role_policy" "key" {
  for_each = local.grants
  name     = "${each.value.bucket}-key"
  role     = aws_iam_role.this[each.value.role].id
  policy   = data.aws_iam_policy_document.key[each.key].json
}

data "aws_partition" "current" {}

# The watcher reads what arrives in buckets that are not made here.
data "aws_iam_policy_document" "sources" {
  dynamic "statement" {
    for_each = var.sources

    content {
      actions   = ["s3:ListBucket"]
      resources = ["arn:${data.aws_partition.current.partition}:s3:::${split("/", statement.value)[0]}"]

      condition {
        test     = "StringLike"
        variable = "s3:prefix"
        values   = ["${join("/", slice(split("/", statement.value), 1, length(split("/", statement.value))))}/*"]
      }
    }
  }

  dynamic "statement" {
    for_each = var.sources

    content {
      actions   = ["s3:GetObject"]
      resources = ["arn:${data.aws_partition.current.partition}:s3:::${statement.value}/*"]
    }
  }

  dynamic "statement" {
    for_each = length(var.source_keys) > 0 ? [var.source_keys] : []

    content {
      actions   = ["kms:Decrypt"]
      resources = statement.value
    }
  }
}

resource "aws_iam_role_policy" "sources" {
  count  = length(var.sources) > 0 ? 1 : 0
  name   = "sources"
  role   = aws_iam_role.this["cpu"].id
  policy = data.aws_iam_policy_document.sources.json
}
