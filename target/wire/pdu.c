/*
 * Names of PDU constants for log lines. Each switch has no default, so that the compiler finds
 * a constant that was added without its name; values outside the enum get the fallback.
 */
#include "wire/pdu.h"

const char *wire_opcode_name(uint8_t opcode)
{
	switch ((enum wire_opcode)(opcode & WIRE_OPCODE_MASK)) {
	case WIRE_OP_NOP_OUT: return "NOP-Out";
	case WIRE_OP_SCSI_CMD: return "SCSI Command";
	case WIRE_OP_TMF_REQ: return "Task Management Request";
	case WIRE_OP_LOGIN_REQ: return "Login Request";
	case WIRE_OP_TEXT_REQ: return "Text Request";
	case WIRE_OP_DATA_OUT: return "Data-Out";
	case WIRE_OP_LOGOUT_REQ: return "Logout Request";
	case WIRE_OP_SNACK: return "SNACK";
	case WIRE_OP_NOP_IN: return "NOP-In";
	case WIRE_OP_SCSI_RSP: return "SCSI Response";
	case WIRE_OP_TMF_RSP: return "Task Management Response";
	case WIRE_OP_LOGIN_RSP: return "Login Response";
	case WIRE_OP_TEXT_RSP: return "Text Response";
	case WIRE_OP_DATA_IN: return "Data-In";
	case WIRE_OP_LOGOUT_RSP: return "Logout Response";
	case WIRE_OP_R2T: return "R2T";
	case WIRE_OP_ASYNC: return "Async Message";
	case WIRE_OP_REJECT: return "Reject";
	}
	return "unknown opcode";
}

const char *wire_login_status_name(uint16_t status)
{
	switch ((enum wire_login_status)status) {
	case WIRE_LOGIN_SUCCESS: return "success";
	case WIRE_LOGIN_MOVED_TEMPORARILY: return "target moved temporarily";
	case WIRE_LOGIN_MOVED_PERMANENTLY: return "target moved permanently";
	case WIRE_LOGIN_INITIATOR_ERROR: return "initiator error";
	case WIRE_LOGIN_AUTH_FAILED: return "authentication failure";
	case WIRE_LOGIN_FORBIDDEN: return "authorization failure";
	case WIRE_LOGIN_NOT_FOUND: return "target not found";
	case WIRE_LOGIN_TARGET_REMOVED: return "target removed";
	case WIRE_LOGIN_VERSION: return "unsupported version";
	case WIRE_LOGIN_TOO_MANY_CONNECTIONS: return "too many connections";
	case WIRE_LOGIN_MISSING_PARAMETER: return "missing parameter";
	case WIRE_LOGIN_CANNOT_INCLUDE: return "cannot include in session";
	case WIRE_LOGIN_SESSION_TYPE: return "session type not supported";
	case WIRE_LOGIN_NO_SESSION: return "session does not exist";
	case WIRE_LOGIN_INVALID_DURING_LOGIN: return "invalid request during login";
	case WIRE_LOGIN_TARGET_ERROR: return "target error";
	case WIRE_LOGIN_UNAVAILABLE: return "service unavailable";
	case WIRE_LOGIN_NO_RESOURCES: return "out of resources";
	}
	return "unknown status";
}

const char *wire_tmf_function_name(uint8_t function)
{
	switch ((enum wire_tmf_function)(function & WIRE_TMF_FUNCTION_MASK)) {
	case WIRE_TMF_ABORT_TASK: return "ABORT TASK";
	case WIRE_TMF_ABORT_TASK_SET: return "ABORT TASK SET";
	case WIRE_TMF_CLEAR_ACA: return "CLEAR ACA";
	case WIRE_TMF_CLEAR_TASK_SET: return "CLEAR TASK SET";
	case WIRE_TMF_LUN_RESET: return "LOGICAL UNIT RESET";
	case WIRE_TMF_TARGET_WARM_RESET: return "TARGET WARM RESET";
	case WIRE_TMF_TARGET_COLD_RESET: return "TARGET COLD RESET";
	case WIRE_TMF_TASK_REASSIGN: return "TASK REASSIGN";
	case WIRE_TMF_QUERY_TASK: return "QUERY TASK";
	case WIRE_TMF_QUERY_TASK_SET: return "QUERY TASK SET";
	case WIRE_TMF_NEXUS_RESET: return "I_T NEXUS RESET";
	case WIRE_TMF_QUERY_ASYNC_EVENT: return "QUERY ASYNCHRONOUS EVENT";
	}
	return "unknown function";
}

const char *wire_reject_reason_name(uint8_t reason)
{
	switch ((enum wire_reject_reason)reason) {
	case WIRE_REJECT_DATA_DIGEST: return "data digest error";
	case WIRE_REJECT_SNACK: return "SNACK rejected";
	case WIRE_REJECT_PROTOCOL: return "protocol error";
	case WIRE_REJECT_UNSUPPORTED: return "command not supported";
	case WIRE_REJECT_TOO_MANY_IMMEDIATE: return "too many immediate commands";
	case WIRE_REJECT_TASK_IN_PROGRESS: return "task in progress";
	case WIRE_REJECT_INVALID_DATA_ACK: return "invalid data acknowledgement";
	case WIRE_REJECT_INVALID_FIELD: return "invalid PDU field";
	case WIRE_REJECT_LONG_OPERATION: return "long operation";
	case WIRE_REJECT_NEGOTIATION_RESET: return "negotiation reset";
	case WIRE_REJECT_WAITING_FOR_LOGOUT: return "waiting for logout";
	}
	return "unknown reason";
}
