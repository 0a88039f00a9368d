output "dvc" {
  description = "Lines to run in the repository, then commit .dvc/config."
  value       = <<-EOT
    dvc remote modify private url s3://${aws_s3_bucket.this["raw"].bucket}
    dvc remote modify shared url s3://${aws_s3_bucket.this["shared"].bucket}
  EOT
}

output "registry" {
  description = "Value of publish.registry in params.yaml."
  value       = "s3://${aws_s3_bucket.this["registry"].bucket}/${var.registry_prefix}"
}

output "roles" {
  description = "ARN of each role, for the annotation eks.amazonaws.com/role-arn of its service account."
  value       = { for name, role in aws_iam_role.this : name => role.arn }
}

output "instance_profiles" {
  description = "Name of each role's instance profile, where instance_profiles is true."
  value       = { for name, profile in aws_iam_instance_profile.this : name => profile.name }
}
