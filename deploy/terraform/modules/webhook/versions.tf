terraform {
  # Write-only arguments: values that Terraform sends and never stores.
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}
